// SPDX-License-Identifier: Apache-2.0
//
// SQLite with owned handles and Result instead of codes; only what the state store needs. Cold.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "dataplane/core/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace millrace::control {

class Database;

// A prepared statement: bind in order, then step; reset() before the next use.
class Statement {
 public:
  Statement& reset();
  // Bind the next parameter.
  Statement& bind(std::int64_t value);
  Statement& bind(const std::string& value);

  // True: a row is there to be read. False: done. Error: what SQLite says.
  [[nodiscard]] Result<bool> step();

  // Columns of the current row, in order.
  [[nodiscard]] std::int64_t integer(int column) const;
  [[nodiscard]] std::string text(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  Statement(sqlite3* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}

  sqlite3* database_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
};

class Database {
 public:
  // Opens or creates the file for reading and writing. Errors carry the path.
  [[nodiscard]] static Result<Database> open(const std::string& path);

  [[nodiscard]] Result<Statement> prepare(const std::string& sql) const;
  // Runs one statement that returns no rows (or whose rows do not matter).
  [[nodiscard]] Status run(const std::string& sql) const;
  // The only column of the first row.
  [[nodiscard]] Result<std::string> ask(const std::string& sql) const;

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  explicit Database(sqlite3* database) : database_(database) {}

  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace millrace::control
