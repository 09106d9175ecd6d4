// SPDX-License-Identifier: Apache-2.0
//
// Writes seeds of the binary fuzz targets: make_seeds PACKETS CORPUS. The forwarder's come from the
// golden packets, one per case, with the steps between the packets; the others are small patches at
// the fields that checks look at.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "dataplane/contract/config_abi.h"
#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/contract/stats_abi.h"
#include "tests/support/cc/golden_case.h"
#include "tests/support/cc/golden_config.h"

namespace millrace::fuzz {
namespace {

using test::Bytes;

void write(const std::filesystem::path& path, const Bytes& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void put_frame(Bytes& out, const Bytes& frame) {
  out.push_back(7);
  out.push_back(0);
  out.push_back(static_cast<std::uint8_t>(frame.size()));
  out.push_back(static_cast<std::uint8_t>(frame.size() >> 8));
  out.insert(out.end(), frame.begin(), frame.end());
}

// The steps of forwarder_fuzz.cc that come closest to the case's.
Bytes seed_of(const test::GoldenCase& golden) {
  test::GoldenConfig config;
  for (const test::GoldenLine& line : golden.config) static_cast<void>(config.read(line));
  Bytes out;
  for (const test::GoldenLine& line : golden.steps) {
    const std::string& word = line.words[0];
    if (word == "wait") out.insert(out.end(), {0, 255});
    if (word == "sweep") out.insert(out.end(), {1, 0});
    if (word == "publish") out.insert(out.end(), {2, 1});
    if (word != "in") continue;
    std::size_t first = 1;
    while (line.words[first] == "nic" || line.words[first] == "times") first += 2;
    const auto frame = config.frame(line, first);
    if (frame) put_frame(out, *frame);
  }
  return out;
}

Bytes patch(std::uint8_t mode, std::size_t offset, const Bytes& bytes) {
  Bytes out = {mode};
  for (int shift = 0; shift < 32; shift += 8) {
    out.push_back(static_cast<std::uint8_t>(offset >> shift));
  }
  out.push_back(static_cast<std::uint8_t>(bytes.size()));
  out.insert(out.end(), bytes.begin(), bytes.end());
  return out;
}

// A patch to a segment also says where to cut the file: nowhere.
Bytes segment_patch(std::uint8_t mode, std::size_t offset, const Bytes& bytes) {
  Bytes out = patch(mode, offset, bytes);
  out.insert(out.begin() + 1, {0, 0});
  return out;
}

void write_patches(const std::filesystem::path& corpus) {
  constexpr std::size_t kImage = sizeof(mr_config_header);
  const Bytes ones(4, 0xff);
  const Bytes small = {1, 0, 0, 0};
  for (std::size_t field = 0; field < sizeof(mr_image); field += 4) {
    const std::string name = "image_field_" + std::to_string(field);
    write(corpus / "image" / (name + "_ones"), patch(6, kImage + field, ones));
    write(corpus / "image" / (name + "_small"), patch(6, kImage + field, small));
  }
  for (std::size_t field = 0; field < sizeof(mr_flow_table_header); field += 16) {
    const std::string name = "header_" + std::to_string(field);
    write(corpus / "flow_table" / name, patch(0, field, ones));
  }
  for (std::size_t field = 0; field < sizeof(mr_segment_header); field += 8) {
    const std::string name = "header_" + std::to_string(field);
    write(corpus / "segment" / ("config_" + name), segment_patch(0, field, ones));
    write(corpus / "segment" / ("stats_" + name), segment_patch(1, field, ones));
  }
  for (std::size_t field = sizeof(mr_segment_header); field < 256; field += 8) {
    const std::string name = "stats_field_" + std::to_string(field);
    write(corpus / "segment" / name, segment_patch(1, field, ones));
  }
}

}  // namespace
}  // namespace millrace::fuzz

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "make_seeds PACKETS CORPUS\n";
    return 2;
  }
  const std::filesystem::path corpus = argv[2];
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (entry.path().extension() != ".packets") continue;
    const auto cases = millrace::test::read_golden_file(entry.path());
    if (!cases) {
      std::cerr << cases.error().message << "\n";
      return 1;
    }
    for (const auto& golden : *cases) {
      millrace::fuzz::write(corpus / "forwarder" / golden.name, millrace::fuzz::seed_of(golden));
    }
  }
  millrace::fuzz::write_patches(corpus);
  return 0;
}
