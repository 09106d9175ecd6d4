// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "dataplane/os/file.h"

namespace millrace::control {

namespace {

Error error_of(sqlite3* database) {
  return Error{database == nullptr ? "out of memory" : sqlite3_errmsg(database)};
}

// Whose directory it is writes to it as well: through the group, unless that is us.
unsigned mode_for(const std::string& path) {
  struct stat info {};
  const std::string directory = std::filesystem::absolute(path).parent_path();
  const bool is_own = ::stat(directory.c_str(), &info) == 0 && info.st_uid == ::geteuid();
  return is_own ? 0640 : 0660;
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  (void)sqlite3_finalize(statement);  // repeats the error that step() has already returned
}

void Database::Close::operator()(sqlite3* database) const { (void)sqlite3_close_v2(database); }

Statement& Statement::reset() {
  (void)sqlite3_reset(statement_.get());  // repeats the error that step() has already returned
  bound_ = 0;
  return *this;
}

// A bind fails only on a wrong index or for want of memory; then step() fails or stores NULL, which
// the schema refuses.
Statement& Statement::bind(std::int64_t value) {
  (void)sqlite3_bind_int64(statement_.get(), ++bound_, value);
  return *this;
}

Statement& Statement::bind(const std::string& value) {
  // The statement takes a copy: a null destructor would mean "static", and SQLITE_TRANSIENT is a
  // C-style cast in the header's macro.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): so the library defines it
  const auto transient = reinterpret_cast<sqlite3_destructor_type>(-1);
  (void)sqlite3_bind_text64(statement_.get(), ++bound_, value.data(), value.size(), transient,
                            SQLITE_UTF8);
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return error_of(database_);
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string Statement::text(int column) const {
  const unsigned char* text = sqlite3_column_text(statement_.get(), column);
  const int bytes = sqlite3_column_bytes(statement_.get(), column);
  return text == nullptr
             ? std::string()
             : std::string(reinterpret_cast<const char*>(text), static_cast<std::size_t>(bytes));
}

Result<Database> Database::open(const std::string& path) {
  const Result<bool> is_elsewhere = os::is_link(path);
  if (!is_elsewhere) return is_elsewhere.error();
  if (!*is_elsewhere) {
    // SQLite does not say why it cannot open a file. Its further ones get the same mode and group.
    const Result<os::File> made = os::File::open_shared(path, O_RDWR | O_CREAT, mode_for(path));
    if (!made) return made.error();
  }
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  Database database(handle);  // to be closed even after a failed open
  if (code != SQLITE_OK) return error_of(handle).within("cannot open " + path);
  return database;
}

Result<Statement> Database::prepare(const std::string& sql) const {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(database_.get(), sql.c_str(), static_cast<int>(sql.size()),
                                      &statement, nullptr);
  if (code != SQLITE_OK) return error_of(database_.get());
  return Statement(database_.get(), statement);
}

Status Database::run(const std::string& sql) const {
  Result<Statement> statement = prepare(sql);
  if (!statement) return statement.error();
  for (;;) {
    Result<bool> row = statement->step();
    if (!row) return row.error();
    if (!*row) return ok();
  }
}

Result<std::string> Database::ask(const std::string& sql) const {
  Result<Statement> statement = prepare(sql);
  if (!statement) return statement.error();
  Result<bool> row = statement->step();
  if (!row) return row.error();
  return *row ? statement->text(0) : std::string();
}

}  // namespace millrace::control
