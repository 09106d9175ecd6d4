// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/flow_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

namespace millrace::shm {

namespace {

struct Pages {
  std::uint64_t bytes = 4096;
  bool is_huge = false;

  [[nodiscard]] std::uint64_t round_up(std::uint64_t length) const {
    return (length + bytes - 1) / bytes * bytes;
  }
};

Pages pages_of(const struct statfs& info) {
  // f_type's type differs between architectures, and only its low 32 bits are the magic.
  if (static_cast<std::uint32_t>(info.f_type) != static_cast<std::uint32_t>(HUGETLBFS_MAGIC)) {
    return Pages{.bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)), .is_huge = false};
  }
  return Pages{.bytes = static_cast<std::uint64_t>(info.f_bsize), .is_huge = true};
}

Result<Pages> pages_of(const os::File& file) {
  struct statfs info {};
  if (::fstatfs(file.fd(), &info) != 0) return os::os_error("cannot ask for the file system");
  return pages_of(info);
}

std::string page_advice(const Pages& pages, std::uint64_t count) {
  const std::string size = std::to_string(pages.bytes / 1024);
  return "the flow table needs " + std::to_string(count) + " free huge pages of " + size +
         " KiB: reserve more (/sys/kernel/mm/hugepages/hugepages-" + size +
         "kB/nr_hugepages) or lower --flows";
}

Error too_few_pages(const Error& cause, const std::string& path, const Pages& pages,
                    std::uint64_t bytes) {
  Error error = cause.within(path);
  if (pages.is_huge) error.message += "; " + page_advice(pages, bytes / pages.bytes);
  return error;
}

// Huge pages that nobody has or has been promised; the kernel may make some on demand.
std::uint64_t free_huge_pages(std::uint64_t page_bytes) {
  const std::string directory =
      "/sys/kernel/mm/hugepages/hugepages-" + std::to_string(page_bytes / 1024) + "kB/";
  const auto number = [&directory](const char* name) {
    std::uint64_t value = 0;
    std::ifstream(directory + name) >> value;
    return value;
  };
  const std::uint64_t free = number("free_hugepages");
  const std::uint64_t on_demand = number("nr_overcommit_hugepages");
  return free + on_demand -
         std::min(free + on_demand, number("resv_hugepages") + number("surplus_hugepages"));
}

Result<FlowFile> removed(const std::string& path, Error why) {
  (void)::unlink(path.c_str());  // was made here
  return why;
}

}  // namespace

Result<FlowFile> FlowFile::create(const std::string& path, std::uint64_t bytes) {
  (void)::unlink(path.c_str());  // absent is fine
  Result<os::File> file = os::File::open_shared(path, O_RDWR | O_CREAT | O_EXCL);
  if (!file) return file.error();
  Result<Pages> pages = pages_of(*file);
  if (!pages) return removed(path, pages.error().within(path));
  const std::uint64_t rounded = pages->round_up(bytes);
  if (::ftruncate(file->fd(), static_cast<off_t>(rounded)) != 0) {
    return removed(
        path, os::os_error("cannot make " + path + " " + std::to_string(rounded) + " bytes long"));
  }
  // A map of huge pages reserves all of them or fails; of ordinary ones it only promises them, and
  // the promise breaks as a SIGBUS unless they are reserved here.
  if (!pages->is_huge) {
    if (Status s = file->reserve(0, rounded); !s) return removed(path, s.error().within(path));
  }
  Result<os::Mapping> mapping =
      os::Mapping::map(*file, rounded, os::Access::read_write, /*populate=*/true);
  if (!mapping) return removed(path, too_few_pages(mapping.error(), path, *pages, rounded));

  FlowFile flows;
  flows.path_ = path;
  flows.file_ = std::move(*file);
  flows.mapping_ = std::move(*mapping);
  flows.has_huge_pages_ = pages->is_huge;
  return flows;
}

Result<FlowFile> FlowFile::open(const std::string& path, os::Access access) {
  const bool is_written = access == os::Access::read_write;
  Result<os::File> file =
      is_written ? os::File::open_shared(path, O_RDWR) : os::File::open(path, O_RDONLY);
  if (!file) return file.error();
  if (is_written) {
    const Result<bool> trusted = file->is_trusted();
    if (!trusted) return trusted.error().within(path);
    if (!*trusted) return os::untrusted(path);
  }
  Result<std::uint64_t> size = file->size_bytes();
  if (!size) return size.error().within(path);
  Result<Pages> pages = pages_of(*file);
  if (!pages) return pages.error().within(path);
  FlowFile flows;
  if (*size != 0) {
    Result<os::Mapping> mapping = os::Mapping::map(*file, *size, access, /*populate=*/is_written);
    if (!mapping) return mapping.error().within(path);
    flows.mapping_ = std::move(*mapping);
  }
  flows.path_ = path;
  flows.file_ = std::move(*file);
  flows.has_huge_pages_ = pages->is_huge;
  return flows;
}

Status FlowFile::rename_to(const std::string& path) {
  if (::rename(path_.c_str(), path.c_str()) != 0) {
    return os::os_error("cannot rename " + path_ + " to " + path);
  }
  path_ = path;
  return ok();
}

Status check_room(const std::string& directory, std::uint32_t count, std::uint64_t bytes,
                  std::uint64_t given_up_bytes) {
  struct statfs info {};
  if (::statfs(directory.c_str(), &info) != 0) {
    return os::os_error("cannot ask for the file system of " + directory);
  }
  const Pages pages = pages_of(info);
  const std::uint64_t wanted = count * pages.round_up(bytes);
  const std::uint64_t free = pages.is_huge ? free_huge_pages(pages.bytes) * pages.bytes
                                           : static_cast<std::uint64_t>(info.f_bavail) *
                                                 static_cast<std::uint64_t>(info.f_bsize);
  if (wanted <= free + given_up_bytes) return ok();
  std::string message = directory + ": " + std::to_string(free >> 20) + " MiB are free";
  if (given_up_bytes != 0) {
    message += " and " + std::to_string(given_up_bytes >> 20) + " MiB hold the last engine's flows";
  }
  message += ", " + std::to_string(wanted >> 20) + " MiB are needed";
  if (pages.is_huge) message += "; " + page_advice(pages, wanted / pages.bytes);
  return Error{message};
}

}  // namespace millrace::shm
