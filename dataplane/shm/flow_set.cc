// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/flow_set.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "dataplane/core/flow_class.h"
#include "dataplane/core/steering.h"
#include "dataplane/os/clock.h"
#include "dataplane/os/process_lock.h"

namespace millrace::shm {

namespace {

namespace fs = std::filesystem;
using core::FlowTable;

constexpr std::string_view kPrefix = "flows.";
constexpr std::string_view kNewSuffix = ".new";

struct Name {
  std::uint32_t worker = 0;
  bool is_new = false;
};
struct Entry {
  std::string path;
  Name name;
};
struct Table {
  Name name;
  FlowFile file;
  FlowTable::Left left;
};

// Nothing for a file that is no flow table.
std::optional<Name> name_of(std::string_view text) {
  Name name;
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  if (text.ends_with(kNewSuffix)) {
    text.remove_suffix(kNewSuffix.size());
    name.is_new = true;
  }
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, name.worker);
  if (text.empty() || end != last || error != std::errc()) return std::nullopt;
  return name;
}

Result<std::vector<Entry>> entries_of(const std::string& directory) {
  std::vector<Entry> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (const auto name = name_of(entry->path().filename().string())) {
      found.push_back({.path = entry->path(), .name = *name});
    }
  }
  if (error) return Error{"cannot list " + directory + ": " + error.message()};
  std::ranges::sort(found, {}, [](const Entry& entry) { return entry.name.worker; });
  return found;
}

// Why there is no table in a file that can be read; empty if there is one, in `tables` then.
std::string add_table(FlowFile file, Name name, std::vector<Table>& tables) {
  Result<FlowTable::Left> left = FlowTable::read(file.bytes());
  if (!left) return left.error().within(file.path()).message;
  if (left->worker_index != name.worker) {
    return file.path() + ": holds the table of worker " + std::to_string(left->worker_index);
  }
  tables.push_back({.name = name, .file = std::move(file), .left = *left});
  return "";
}

struct Found {
  std::vector<Entry> entries;
  std::vector<Table> tables;
  std::vector<std::string> problems;
};

// A file that cannot be read is no damage: it may well be whole, so that the start has to fail.
Result<Found> find_tables(const std::string& directory, const std::string& saved_path) {
  (void)::unlink((saved_path + std::string(kNewSuffix)).c_str());  // of a start that was killed
  Result<std::vector<Entry>> entries = entries_of(directory);
  if (!entries) return entries.error();
  Found found{.entries = std::move(*entries), .tables = {}, .problems = {}};
  if (::access(saved_path.c_str(), F_OK) == 0) {
    found.entries.push_back({.path = saved_path, .name = {}});
  } else if (errno != ENOENT && errno != ENOTDIR) {
    return os::os_error("cannot look for " + saved_path);
  }
  for (const Entry& entry : found.entries) {
    Result<FlowFile> file = FlowFile::open(entry.path, os::Access::read_only);
    if (!file) return file.error();
    const Result<bool> trusted = file->is_trusted();
    if (!trusted) return trusted.error().within(entry.path);
    std::string problem = *trusted ? add_table(std::move(*file), entry.name, found.tables)
                                   : os::untrusted(entry.path).message;
    if (!problem.empty() && !entry.name.is_new) found.problems.push_back(std::move(problem));
  }
  return found;
}

// Sets of starts that failed or were killed: never in force, and in the way of what is made now.
void remove_unfinished(std::span<const Entry> entries, std::span<const FlowFile> kept) {
  for (const Entry& entry : entries) {
    const auto is_it = [&](const FlowFile& file) { return file.path() == entry.path; };
    if (!entry.name.is_new || std::ranges::any_of(kept, is_it)) continue;
    (void)::unlink(entry.path.c_str());  // absent is fine; what stays is never believed
  }
}

Result<FlowTable::Layout> layout_of(const FlowSet::Shape& shape, std::uint32_t worker,
                                    std::uint64_t generation) {
  FlowTable::Layout layout{.capacity = shape.capacity,
                           .worker_index = worker,
                           .worker_count = shape.worker_count,
                           .secret = {},
                           .created_ns = clock_ns(CLOCK_BOOTTIME),
                           .creator_pid = static_cast<std::uint32_t>(::getpid()),
                           .set_generation = generation};
  if (::getrandom(layout.secret, sizeof(layout.secret), 0) != sizeof(layout.secret)) {
    return os::os_error("no random numbers");
  }
  return layout;
}

// The last to be given up by a full table come first, what is over comes last.
constexpr std::uint32_t kRankOver = 3;
constexpr std::uint32_t kRankCount = 4;

std::uint32_t rank_of(const mr_flow_record& flow) {
  if (core::is_over(flow)) return kRankOver;
  if (core::is_confirmed(flow)) return 0;
  return (flow.flags & MR_FLOW_PLAUSIBLE) != 0 ? 1 : 2;
}

// One for each flow directory, since directories may share the spare one.
std::string saved_path_for(const std::string& directory, const std::string& spare_directory) {
  std::error_code ignored;  // then the path is as it was given
  std::string name = fs::absolute(directory, ignored).lexically_normal();
  while (name.ends_with('/')) name.pop_back();
  std::ranges::replace(name, '/', '-');
  return spare_directory + "/flows.saved" + name;
}

// Who owns the directory puts there what an engine then writes to.
Status check_owner(const std::string& directory, const os::File& opened, const os::File& shared) {
  struct stat info {};
  struct stat of_shared {};
  if (::fstat(opened.fd(), &info) != 0 || ::fstat(shared.fd(), &of_shared) != 0) {
    return os::os_error("cannot ask who owns " + directory);
  }
  if (info.st_uid == 0 || info.st_uid == ::geteuid() || info.st_uid == of_shared.st_uid) {
    return ok();
  }
  return Error{directory + ": belongs to user " + std::to_string(info.st_uid) +
               ", who is neither root, nor the user of this program, nor the owner of the runtime "
               "directory; move it away, or chown it if its flows are to be kept"};
}

// `shared_directory` says who else reads flows. Only a directory that is made here is theirs: what
// was there may be anybody's.
Result<os::File> lock(const std::string& directory, const std::string& shared_directory) {
  constexpr unsigned kMode = 0750;
  const bool is_new = ::mkdir(directory.c_str(), kMode) == 0;
  if (!is_new && errno != EEXIST) {
    return os::os_error("cannot make the flow table directory " + directory);
  }
  Result<os::File> locked = os::lock_directory(directory, os::Links::refused);
  if (!locked) return Error{locked.error().message + " (each engine needs its own --flow-dir)"};
  const Result<os::File> shared = os::File::open(shared_directory, O_PATH | O_DIRECTORY);
  if (!shared) return locked;  // nobody to share it with
  if (Status owned = check_owner(directory, *locked, *shared); !owned) return owned.error();
  if (is_new) {
    os::raise_mode(*locked, kMode);
    os::give_to_group_of(*shared, *locked);
  }
  return locked;
}

// Of one lock, which lasts as long as either.
Result<os::File> duplicate_of(const os::File& lock) {
  os::File same(::fcntl(lock.fd(), F_DUPFD_CLOEXEC, 0));
  if (!same.is_open()) return os::os_error("cannot share a lock");
  return same;
}

}  // namespace

FlowSet::FlowSet(os::File lock, std::string directory, std::string saved_path)
    : lock_(std::move(lock)),
      directory_(std::move(directory)),
      saved_path_(std::move(saved_path)) {}

FlowSet& FlowSet::operator=(FlowSet&& other) noexcept {
  std::swap(lock_, other.lock_);
  std::swap(directory_, other.directory_);
  std::swap(saved_path_, other.saved_path_);
  std::swap(left_files_, other.left_files_);
  std::swap(left_, other.left_);
  std::swap(problems_, other.problems_);
  std::swap(generation_max_, other.generation_max_);
  std::swap(files_, other.files_);
  std::swap(generation_, other.generation_);
  std::swap(is_new_, other.is_new_);
  return *this;
}

Result<FlowSet> FlowSet::open(const std::string& directory, const std::string& spare_directory) {
  Result<os::File> locked = lock(directory, spare_directory);
  if (!locked) return locked.error();
  FlowSet set(std::move(*locked), directory, saved_path_for(directory, spare_directory));
  if (Status found = set.find_left(); !found) return found.error();
  return set;
}

Result<FlowSet> FlowSet::open_again() const {
  const bool is_same = os::identity_of(directory_) == os::identity_of(lock_);
  Result<os::File> locked =
      is_same ? duplicate_of(lock_) : lock(directory_, fs::path(saved_path_).parent_path());
  if (!locked) return locked.error();
  FlowSet set(std::move(*locked), directory_, saved_path_);
  if (Status found = set.find_left(); !found) return found.error();
  return set;
}

std::string FlowSet::path_of(std::uint32_t worker) const {
  return directory_ + "/" + std::string(kPrefix) + std::to_string(worker);
}

Status FlowSet::find_left() {
  Result<Found> found = find_tables(directory_, saved_path_);
  if (!found) return found.error();
  problems_ = std::move(found->problems);
  std::optional<std::uint64_t> in_force;
  for (const Table& table : found->tables) {
    generation_max_ = std::max(generation_max_, table.left.set_generation);
    if (table.name.is_new || in_force.value_or(0) > table.left.set_generation) continue;
    in_force = table.left.set_generation;
  }
  for (Table& table : found->tables) {
    if (table.left.set_generation != in_force) continue;
    if (table.name.is_new) {
      // The last commit() did not come so far. Where it cannot be renamed it is used as it is.
      (void)table.file.rename_to(path_of(table.name.worker));
    }
    left_.push_back(table.left);
    left_files_.push_back(std::move(table.file));
  }
  remove_unfinished(found->entries, left_files_);
  for (std::uint32_t worker = 0; !left_.empty() && worker < left_.front().worker_count; ++worker) {
    const bool is_there = std::ranges::any_of(found->entries, [&](const Entry& entry) {
      return entry.name.worker == worker && !entry.name.is_new;
    });
    const bool is_left = std::ranges::count(left_, worker, &FlowTable::Left::worker_index) != 0;
    if (!is_there && !is_left) problems_.push_back(path_of(worker) + ": is missing");
  }
  return ok();
}

bool FlowSet::is_left_as(const Shape& shape) const {
  return left_.size() == shape.worker_count && left_files_.front().path() != saved_path_ &&
         std::ranges::all_of(left_, [&](const FlowTable::Left& left) {
           return left.worker_count == shape.worker_count && left.capacity == shape.capacity;
         });
}

Result<FlowSet::TakenOver> FlowSet::take_over(const Shape& shape) {
  if (is_left_as(shape)) return attach_left(shape);
  Result<std::vector<FlowTable>> made = make(shape);
  if (!made) return made.error();
  TakenOver taken{.tables = std::move(*made)};
  enter_left(taken);
  return taken;
}

Result<FlowSet::TakenOver> FlowSet::attach_left(const Shape& shape) {
  TakenOver taken;
  for (std::uint32_t worker = 0; worker < shape.worker_count; ++worker) {
    Result<FlowFile> file = FlowFile::open(left_files_[worker].path(), os::Access::read_write);
    if (!file) return file.error();
    const FlowTable::Layout layout{.capacity = shape.capacity,
                                   .worker_index = worker,
                                   .worker_count = shape.worker_count,
                                   .secret = {},
                                   .created_ns = 0,
                                   .creator_pid = 0};
    Result<FlowTable> table = FlowTable::attach(file->bytes(), layout);
    if (!table) return table.error().within(file->path());
    taken.flows += table->used();
    taken.tables.push_back(*table);
    files_.push_back(std::move(*file));
  }
  return taken;
}

void FlowSet::enter_left(TakenOver& taken) const {
  const auto worker_count = static_cast<std::uint32_t>(taken.tables.size());
  const auto enter = [&](const mr_flow_record& flow, const mr_last_hop& hop) {
    const std::uint32_t owner = core::owner_of(core::ClientKey::of(flow), worker_count);
    if (taken.tables[owner].insert_copy(flow, hop)) {
      ++taken.flows;
    } else if (rank_of(flow) != kRankOver) {
      ++taken.refused;
    }
  };
  for (std::uint32_t rank = 0; rank < kRankCount; ++rank) {
    for (const FlowTable::Left& left : left_) {
      for (const mr_flow_record& flow : left.records) {
        if (rank_of(flow) != rank || !FlowTable::is_believable(flow)) continue;
        enter(flow, left.last_hops[flow.last_hop]);
      }
    }
  }
}

Result<std::vector<FlowTable>> FlowSet::make(const Shape& shape) {
  generation_ = generation_max_ + 1;
  Status created = create_files(shape);
  if (!created) {
    abandon();
    const std::uint64_t table_bytes = FlowTable::bytes_for(shape.capacity);
    // There is room: it is something else that fails, and would fail again.
    if (check_room(directory_, shape.worker_count, table_bytes, 0)) return created.error();
    if (Status given_up = give_up_room(shape); !given_up) return given_up.error();
    if (created = create_files(shape); !created) return created.error();
  }
  std::vector<FlowTable> tables;
  for (std::uint32_t worker = 0; worker < shape.worker_count; ++worker) {
    const Result<FlowTable::Layout> layout = layout_of(shape, worker, generation_);
    if (!layout) return layout.error();
    tables.push_back(FlowTable::format(files_[worker].bytes(), *layout));
  }
  return tables;
}

Status FlowSet::create_files(const Shape& shape) {
  is_new_ = true;
  for (std::uint32_t worker = 0; worker < shape.worker_count; ++worker) {
    Result<FlowFile> file = FlowFile::create(path_of(worker) + std::string(kNewSuffix),
                                             FlowTable::bytes_for(shape.capacity));
    if (!file) return file.error();
    files_.push_back(std::move(*file));
  }
  return ok();
}

// Old and new do not fit together: what was left moves to the spare directory, in a step like that
// of commit(), before the first page of it is given up.
Status FlowSet::give_up_room(const Shape& shape) {
  const Result<std::vector<Entry>> entries = entries_of(directory_);
  if (!entries) return entries.error();
  std::uint64_t held_bytes = 0;
  for (const Entry& entry : *entries) {
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(entry.path, error);
    if (!error) held_bytes += bytes;
  }
  Status room =
      check_room(directory_, shape.worker_count, FlowTable::bytes_for(shape.capacity), held_bytes);
  if (!room) return room;
  if (Status saved = save_left(); !saved) return saved;
  for (const Entry& entry : *entries) {
    if (::unlink(entry.path.c_str()) != 0) return os::os_error("cannot remove " + entry.path);
  }
  generation_ = generation_max_ + 1;
  return ok();
}

Status FlowSet::save_left() {
  if (left_.empty() || left_files_.front().path() == saved_path_) return ok();
  std::uint64_t count = 0;
  for (const FlowTable::Left& left : left_) {
    count += static_cast<std::uint64_t>(std::ranges::count_if(
        left.records, [](const mr_flow_record& flow) { return FlowTable::is_believable(flow); }));
  }
  // Some more than that, since a bucket may be full before the table is.
  const Shape shape{.worker_count = 1,
                    .capacity = static_cast<std::uint32_t>(
                        std::min<std::uint64_t>(count + count / 8 + 64, MR_FLOW_CAPACITY_MAX))};
  Result<FlowFile> file =
      FlowFile::create(saved_path_ + ".new", FlowTable::bytes_for(shape.capacity));
  if (!file) {
    return file.error().within(
        "no room for new flow tables beside the last engine's, and none to "
        "keep its flows meanwhile");
  }
  const Result<FlowTable::Layout> layout = layout_of(shape, 0, generation_max_ + 1);
  if (!layout) return layout.error();
  TakenOver saved{.tables = {FlowTable::format(file->bytes(), *layout)}};
  enter_left(saved);
  const Result<FlowTable::Left> left = FlowTable::read(file->bytes());
  if (!left) return left.error();
  if (Status renamed = file->rename_to(saved_path_); !renamed) return renamed;
  generation_max_ = left->set_generation;
  left_ = {*left};
  left_files_.clear();
  left_files_.push_back(std::move(*file));
  return ok();
}

Status FlowSet::commit() {
  for (std::uint32_t worker = 0; worker < files_.size(); ++worker) {
    if (!files_[worker].path().ends_with(kNewSuffix)) continue;
    if (Status renamed = files_[worker].rename_to(path_of(worker)); !renamed) return renamed;
    is_new_ = false;  // in force from the first one on: abandon() is to leave the others alone
  }
  left_.clear();
  left_files_.clear();
  (void)::unlink(saved_path_.c_str());  // absent is fine; what stays is out of date
  const Result<std::vector<Entry>> entries = entries_of(directory_);
  for (const Entry& entry : entries ? *entries : std::vector<Entry>{}) {
    if (!entry.name.is_new && entry.name.worker < files_.size()) continue;
    (void)::unlink(entry.path.c_str());  // likewise
  }
  return ok();
}

void FlowSet::abandon() {
  for (const FlowFile& file : files_) {
    if (is_new_) (void)::unlink(file.path().c_str());  // what stays is never believed
  }
  files_.clear();
  is_new_ = false;
}

}  // namespace millrace::shm
