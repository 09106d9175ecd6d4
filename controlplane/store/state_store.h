// SPDX-License-Identifier: Apache-2.0
//
// Keeps a StoredState in an SQLite file. Cold.
//
// Every save is one transaction that writes only the rows that differ from the last one. The
// journal is a WAL with synchronous=NORMAL: nothing is lost when the process dies, and a power
// failure loses at most the last changes, never the file; the flows that they belong to are gone
// then anyway.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "controlplane/store/sqlite.h"
#include "controlplane/store/store.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class StateStore final : public Store {
 public:
  // Opens or creates the file and checks it as a whole. The errors name the file and what to do: a
  // damaged one is for the operator to move away, since going on without it forgets drains.
  [[nodiscard]] static Result<StateStore> open(const std::string& path);

  [[nodiscard]] const StoredState& state() const override { return state_; }
  [[nodiscard]] Status save(StoredState state) override;
  [[nodiscard]] Status save_id_floor(std::uint32_t id_floor) override;
  [[nodiscard]] Status save_targets(std::span<const StoredTarget> targets) override;

 private:
  StateStore(Database database, std::string path)
      : database_(std::move(database)), path_(std::move(path)) {}
  [[nodiscard]] Status prepare_schema();
  [[nodiscard]] Status load();
  template <typename Write>
  [[nodiscard]] Status transact(Write write);
  [[nodiscard]] Status write_changes(const StoredState& state);
  [[nodiscard]] Status write_settings(const StoredState& state);
  [[nodiscard]] Status put_setting(const char* name, const std::string& value);

  Database database_;
  std::string path_;
  StoredState state_;
};

}  // namespace millrace::control
