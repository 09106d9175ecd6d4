// SPDX-License-Identifier: Apache-2.0
//
// The flow tables of an engine, one for each worker, as one set: what the last engine left is found
// as a whole, and a new set takes its place as a whole. Cold.
//
//   DIRECTORY/flows.N          table of worker N; the XDP engine's copy is flows.0
//   DIRECTORY/flows.N.new      of a set that is being made
//   SPARE/flows.saved-NAME     a set of one table, in ordinary memory: the flows of DIRECTORY,
//                              while a new set needs the room of the old one
//
//   open()       locks DIRECTORY against other engines and finds what was left, of either engine
//                and any number of workers
//   take_over()  tables of the wanted number and size with those flows, beside what was left
//   commit()     from now on the new set is what is found
//
// Every set has a generation above that of all tables that were there when it was made. What counts
// is the highest one that a table without .new has: the first rename of commit() puts a set in
// force and the one before out of it, in one step. A start that fails, or is killed at whatever
// place, thus leaves the flows of the last engine: under their names, in the saved table, or in a
// set in force whose renaming the next open() completes. Tables of any other generation are never
// believed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataplane/core/flow_table.h"
#include "dataplane/core/result.h"
#include "dataplane/os/file.h"
#include "dataplane/shm/flow_file.h"

namespace millrace::shm {

// Flows of a table without --flows. Of both engines, so that a node that changes from one to the
// other has room for all.
inline constexpr std::uint32_t kFlowCapacityDefault = 1u << 20;

class FlowSet {
 public:
  struct Shape {
    std::uint32_t worker_count = 1;
    std::uint32_t capacity = 0;  // of each table
  };
  // What became of the flows that were left.
  struct TakenOver {
    std::vector<core::FlowTable> tables;  // of worker 0, 1, ...
    std::uint64_t flows = 0;
    // That found no room, without closed and expired ones. Who goes without is who a full table
    // gives up first.
    std::uint64_t refused = 0;
  };

  // Makes `directory` if it is missing, for the group of `spare_directory`, which is there and of
  // ordinary memory, such as the runtime directory. What is there may be no symbolic link, and must
  // belong to root, to the effective user or to the owner of `spare_directory`. Tables that are
  // damaged, or that others may write to, are said in problems() and left out.
  [[nodiscard]] static Result<FlowSet> open(const std::string& directory,
                                            const std::string& spare_directory);
  // The directory once more, to make a set anew whose files somebody removed. Shares this one's
  // lock as long as the directory is the same.
  [[nodiscard]] Result<FlowSet> open_again() const;
  FlowSet(FlowSet&& other) noexcept = default;
  FlowSet& operator=(FlowSet&& other) noexcept;
  // Without commit() all is as open() found it.
  ~FlowSet() { abandon(); }

  // What was found: nothing, or all tables of one set. Valid until commit().
  [[nodiscard]] std::span<const core::FlowTable::Left> left() const { return left_; }
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

  // True when what was left has the same number of tables and the same size.
  [[nodiscard]] bool is_left_as(const Shape& shape) const;
  // Tables with the flows that were left. Where these are as `shape` says they are used as they
  // are. Otherwise each record goes to the worker that owns it now (core/steering.h), in a
  // new set. Errors say how much room is lacking.
  [[nodiscard]] Result<TakenOver> take_over(const Shape& shape);
  // New tables without flows, in a new set. files()[i] is table i.
  [[nodiscard]] Result<std::vector<core::FlowTable>> make(const Shape& shape);

  [[nodiscard]] std::span<const FlowFile> files() const { return files_; }
  // Puts the set in force, and removes what was left.
  [[nodiscard]] Status commit();

 private:
  FlowSet(os::File lock, std::string directory, std::string saved_path);

  [[nodiscard]] Status find_left();
  [[nodiscard]] Result<TakenOver> attach_left(const Shape& shape);
  void enter_left(TakenOver& taken) const;
  [[nodiscard]] Status create_files(const Shape& shape);
  [[nodiscard]] Status give_up_room(const Shape& shape);
  [[nodiscard]] Status save_left();
  void abandon();
  [[nodiscard]] std::string path_of(std::uint32_t worker) const;

  os::File lock_;
  std::string directory_;
  std::string saved_path_;
  std::vector<FlowFile> left_files_;
  std::vector<core::FlowTable::Left> left_;
  std::vector<std::string> problems_;
  std::uint64_t generation_max_ = 0;  // of all tables that were found
  std::vector<FlowFile> files_;
  std::uint64_t generation_ = 0;
  bool is_new_ = false;  // files_ are under .new
};

}  // namespace millrace::shm
