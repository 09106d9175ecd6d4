// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/flow_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace millrace::shm {

namespace {

struct Pages {
  std::uint64_t bytes = 4096;
  bool is_huge = false;
};

Result<Pages> pages_of(const File& file) {
  struct statfs info {};
  if (::fstatfs(file.fd(), &info) != 0) return os_error("cannot ask for the file system");
  // f_type's type differs between architectures, and only its low 32 bits are the magic.
  if (static_cast<std::uint32_t>(info.f_type) != static_cast<std::uint32_t>(HUGETLBFS_MAGIC)) {
    return Pages{.bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)), .is_huge = false};
  }
  return Pages{.bytes = static_cast<std::uint64_t>(info.f_bsize), .is_huge = true};
}

Status lock_exclusively(const File& file, const std::string& path) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.fd(), F_OFD_SETLK, &lock) == 0) return ok();
  if (errno != EAGAIN && errno != EACCES) return os_error("cannot lock " + path);
  return Error{path + ": in use by another engine (each needs its own --flow-dir)"};
}

Error too_few_pages(const Error& cause, const std::string& path, const Pages& pages,
                    std::uint64_t bytes) {
  Error error = cause.within(path);
  if (!pages.is_huge) return error;
  error.message += "; the flow table needs " + std::to_string(bytes / pages.bytes) +
                   " free huge pages of " + std::to_string(pages.bytes / 1024) +
                   " KiB: reserve more (/proc/sys/vm/nr_hugepages) or lower --flows";
  return error;
}

// Leaves a file of exactly `bytes` bytes; true when it had that size before.
Result<bool> resize(const File& file, const std::string& path, std::uint64_t bytes) {
  Result<std::uint64_t> size = file.size_bytes();
  if (!size) return size.error().within(path);
  if (*size == bytes) return true;
  if (::ftruncate(file.fd(), 0) != 0 || ::ftruncate(file.fd(), static_cast<off_t>(bytes)) != 0) {
    return os_error("cannot make " + path + " " + std::to_string(bytes) + " bytes long");
  }
  return false;
}

std::string path_of(const std::string& directory, std::uint32_t worker) {
  return directory + "/flows." + std::to_string(worker);
}

}  // namespace

Result<FlowFile> FlowFile::open(const std::string& directory, std::uint32_t worker,
                                std::uint64_t bytes) {
  if (::mkdir(directory.c_str(), 0750) != 0 && errno != EEXIST) {
    return os_error("cannot make the flow table directory " + directory);
  }
  FlowFile flows;
  flows.path_ = path_of(directory, worker);
  Result<File> file = File::open(flows.path_, O_RDWR | O_CREAT);
  if (!file) return file.error();
  if (Status locked = lock_exclusively(*file, flows.path_); !locked) return locked.error();
  Result<Pages> pages = pages_of(*file);
  if (!pages) return pages.error().within(flows.path_);

  const std::uint64_t rounded = (bytes + pages->bytes - 1) / pages->bytes * pages->bytes;
  Result<bool> existed = resize(*file, flows.path_, rounded);
  if (!existed) return existed.error();
  // A map of huge pages reserves all of them or fails; of ordinary ones it only promises them, and
  // the promise breaks as a SIGBUS unless they are reserved here.
  if (!pages->is_huge) {
    if (Status s = file->reserve(0, rounded); !s) return s.error().within(flows.path_);
  }
  Result<Mapping> mapping = Mapping::map(*file, rounded, Access::read_write, /*populate=*/true);
  if (!mapping) return too_few_pages(mapping.error(), flows.path_, *pages, rounded);

  flows.file_ = std::move(*file);
  flows.mapping_ = std::move(*mapping);
  flows.existed_ = *existed;
  flows.has_huge_pages_ = pages->is_huge;
  return flows;
}

Result<FlowFile> FlowFile::open_read_only(const std::string& directory, std::uint32_t worker) {
  FlowFile flows;
  flows.path_ = path_of(directory, worker);
  Result<File> file = File::open(flows.path_, O_RDONLY);
  if (!file) return file.error();
  Result<std::uint64_t> size = file->size_bytes();
  if (!size) return size.error().within(flows.path_);
  if (*size == 0) return Error{flows.path_ + ": empty"};
  Result<Pages> pages = pages_of(*file);
  if (!pages) return pages.error().within(flows.path_);
  Result<Mapping> mapping = Mapping::map(*file, *size, Access::read_only);
  if (!mapping) return mapping.error().within(flows.path_);

  flows.file_ = std::move(*file);
  flows.mapping_ = std::move(*mapping);
  flows.existed_ = true;
  flows.has_huge_pages_ = pages->is_huge;
  return flows;
}

}  // namespace millrace::shm
