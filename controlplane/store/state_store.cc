// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store/state_store.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "controlplane/store/settings_text.h"

namespace millrace::control {
namespace {
// What makes a file of schema version i one of version i + 1; an older program refuses a newer
// file. Steps are only ever added: somewhere there is a file of each version.
const std::vector<std::vector<std::string>> kSchemaSteps = {
    {"CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
     "CREATE TABLE listeners (vip TEXT NOT NULL, protocol INTEGER NOT NULL, port INTEGER NOT NULL,"
     " slot INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (vip, protocol, port))",
     "CREATE TABLE target_groups (name TEXT PRIMARY KEY, slot INTEGER NOT NULL,"
     " id INTEGER NOT NULL, protocol INTEGER NOT NULL, port INTEGER NOT NULL,"
     " forwarding INTEGER NOT NULL, deregistration_delay_seconds INTEGER NOT NULL,"
     " deregistration_connection_termination INTEGER NOT NULL,"
     " unhealthy_connection_termination INTEGER NOT NULL, lookup_slots INTEGER NOT NULL)",
     "CREATE TABLE targets (target_group TEXT NOT NULL, address TEXT NOT NULL,"
     " port INTEGER NOT NULL, slot INTEGER NOT NULL, id INTEGER NOT NULL, weight INTEGER NOT NULL,"
     " zone TEXT NOT NULL, is_configured INTEGER NOT NULL, is_operator_drained INTEGER NOT NULL,"
     " registration INTEGER NOT NULL, drain_deadline_ns INTEGER NOT NULL,"
     " health_state INTEGER NOT NULL, health_reason INTEGER NOT NULL,"
     " health_description TEXT NOT NULL, PRIMARY KEY (target_group, address, port))"},
    {"ALTER TABLE target_groups ADD COLUMN gue_port INTEGER NOT NULL DEFAULT 6080"},
    {"ALTER TABLE target_groups ADD COLUMN health_protocol INTEGER NOT NULL DEFAULT 0",
     "ALTER TABLE target_groups ADD COLUMN health_port INTEGER NOT NULL DEFAULT 0",
     "ALTER TABLE target_groups ADD COLUMN health_path TEXT NOT NULL DEFAULT '/'",
     "ALTER TABLE target_groups ADD COLUMN health_interval_ms INTEGER NOT NULL DEFAULT 30000",
     "ALTER TABLE target_groups ADD COLUMN health_timeout_ms INTEGER NOT NULL DEFAULT 10000",
     "ALTER TABLE target_groups ADD COLUMN healthy_threshold INTEGER NOT NULL DEFAULT 5",
     "ALTER TABLE target_groups ADD COLUMN unhealthy_threshold INTEGER NOT NULL DEFAULT 2",
     "ALTER TABLE target_groups ADD COLUMN health_matcher TEXT NOT NULL DEFAULT '200-399'",
     "ALTER TABLE target_groups ADD COLUMN listener_port INTEGER NOT NULL DEFAULT 0"},
    {"ALTER TABLE target_groups ADD COLUMN health_host TEXT NOT NULL DEFAULT ''"},
    // Until then the file's text was kept beside a config that was applied past it alone.
    {"INSERT INTO settings SELECT 'config_is_from_file', '0' FROM settings"
     " WHERE name = 'config_file_text' AND value <> ''"},
    // Until then an attribute of a group had a column, if somebody had thought of it.
    {"ALTER TABLE target_groups ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",
     "UPDATE target_groups SET settings = json_object('attributes', json_object("
     " 'millrace.forwarding',"
     "  CASE forwarding WHEN 1 THEN 'nat' WHEN 2 THEN 'dsr' WHEN 3 THEN 'ipip' WHEN 4 THEN 'gue'"
     "  END,"
     " 'millrace.gue.port', CAST(gue_port AS TEXT),"
     " 'deregistration_delay.timeout_seconds', CAST(deregistration_delay_seconds AS TEXT),"
     " 'deregistration_delay.connection_termination.enabled',"
     "  iif(deregistration_connection_termination, 'true', 'false'),"
     " 'target_health_state.unhealthy.connection_termination.enabled',"
     "  iif(unhealthy_connection_termination, 'true', 'false'),"
     " 'millrace.lookup_table.slots', CAST(lookup_slots AS TEXT),"
     " 'millrace.health_check.interval_milliseconds', CAST(health_interval_ms AS TEXT),"
     " 'millrace.health_check.timeout_milliseconds', CAST(health_timeout_ms AS TEXT),"
     " 'millrace.health_check.host', health_host"
     "), 'health_check', json_object("
     " 'protocol', CASE health_protocol WHEN 0 THEN 'TCP' WHEN 1 THEN 'HTTP' END,"
     " 'port', iif(health_port = 0, 'traffic-port', CAST(health_port AS TEXT)),"
     " 'path', health_path,"
     " 'healthy_threshold', CAST(healthy_threshold AS TEXT),"
     " 'unhealthy_threshold', CAST(unhealthy_threshold AS TEXT),"
     " 'matcher', health_matcher))",
     "ALTER TABLE target_groups DROP COLUMN forwarding",
     "ALTER TABLE target_groups DROP COLUMN deregistration_delay_seconds",
     "ALTER TABLE target_groups DROP COLUMN deregistration_connection_termination",
     "ALTER TABLE target_groups DROP COLUMN unhealthy_connection_termination",
     "ALTER TABLE target_groups DROP COLUMN lookup_slots",
     "ALTER TABLE target_groups DROP COLUMN gue_port",
     "ALTER TABLE target_groups DROP COLUMN health_protocol",
     "ALTER TABLE target_groups DROP COLUMN health_port",
     "ALTER TABLE target_groups DROP COLUMN health_path",
     "ALTER TABLE target_groups DROP COLUMN health_interval_ms",
     "ALTER TABLE target_groups DROP COLUMN health_timeout_ms",
     "ALTER TABLE target_groups DROP COLUMN healthy_threshold",
     "ALTER TABLE target_groups DROP COLUMN unhealthy_threshold",
     "ALTER TABLE target_groups DROP COLUMN health_matcher",
     "ALTER TABLE target_groups DROP COLUMN health_host"},
};
const std::uint64_t kSchemaVersion = kSchemaSteps.size();

using ListenerKey = std::tuple<IpAddress, Protocol, std::uint16_t>;

ListenerKey key_of(const StoredListener& row) { return {row.vip, row.protocol, row.port}; }
const std::string& key_of(const StoredGroup& row) { return row.settings.name; }
const TargetKey& key_of(const StoredTarget& row) { return row.key; }

void bind_key(Statement& statement, const StoredListener& row) {
  statement.bind(row.vip.to_string()).bind(static_cast<int>(row.protocol)).bind(row.port);
}
void bind_key(Statement& statement, const StoredGroup& row) { statement.bind(row.settings.name); }
void bind_key(Statement& statement, const StoredTarget& row) {
  statement.bind(row.key.group).bind(row.key.address.to_string()).bind(row.key.port);
}

void bind_rest(Statement& statement, const StoredListener& row) {
  statement.bind(row.slot).bind(row.id);
}
void bind_rest(Statement& statement, const StoredGroup& row) {
  statement.bind(row.slot)
      .bind(row.id)
      .bind(static_cast<int>(row.settings.protocol))
      .bind(row.settings.port)
      .bind(row.listener_port)
      .bind(settings_text(row.settings));
}
void bind_rest(Statement& statement, const StoredTarget& row) {
  statement.bind(row.slot)
      .bind(row.id)
      .bind(row.weight)
      .bind(row.zone)
      .bind(row.is_configured ? 1 : 0)
      .bind(row.is_operator_drained ? 1 : 0)
      .bind(static_cast<int>(row.registration))
      .bind(static_cast<std::int64_t>(row.drain_deadline_ns))
      .bind(static_cast<int>(row.health_state))
      .bind(static_cast<int>(row.health_reason))
      .bind(row.health_description);
}

struct TableSql {
  const char* put;
  const char* remove;
};
constexpr TableSql kListenerSql = {
    .put = "INSERT OR REPLACE INTO listeners VALUES (?, ?, ?, ?, ?)",
    .remove = "DELETE FROM listeners WHERE vip = ? AND protocol = ? AND port = ?"};
constexpr TableSql kGroupSql = {
    .put = "INSERT OR REPLACE INTO target_groups VALUES (?, ?, ?, ?, ?, ?, ?)",
    .remove = "DELETE FROM target_groups WHERE name = ?"};
constexpr TableSql kTargetSql = {
    .put = "INSERT OR REPLACE INTO targets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    .remove = "DELETE FROM targets WHERE target_group = ? AND address = ? AND port = ?"};

// Writes rows, or removes them, by one statement that is prepared when the first one comes.
class RowWriter {
 public:
  RowWriter(const Database& database, const char* sql) : database_(database), sql_(sql) {}

  template <typename Row>
  [[nodiscard]] Status put(const Row& row) {
    return run([&](Statement& statement) {
      bind_key(statement, row);
      bind_rest(statement, row);
    });
  }
  template <typename Row>
  [[nodiscard]] Status remove(const Row& row) {
    return run([&](Statement& statement) { bind_key(statement, row); });
  }

 private:
  template <typename Bind>
  [[nodiscard]] Status run(Bind bind) {
    if (!statement_) {
      Result<Statement> prepared = database_.prepare(sql_);
      if (!prepared) return prepared.error();
      statement_.emplace(std::move(*prepared));
    }
    bind(statement_->reset());
    if (Result<bool> done = statement_->step(); !done) return done.error();
    return ok();
  }

  const Database& database_;
  const char* sql_;
  std::optional<Statement> statement_;
};

// Makes a table that holds `before` hold `after`; both in order of their keys.
template <typename Row>
Status write_rows(const Database& database, const TableSql& sql, const std::vector<Row>& before,
                  const std::vector<Row>& after) {
  RowWriter put(database, sql.put);
  RowWriter remove(database, sql.remove);
  auto old = before.begin();
  for (const Row& row : after) {
    for (; old != before.end() && key_of(*old) < key_of(row); ++old) {
      if (Status removed = remove.remove(*old); !removed) return removed;
    }
    const bool is_known = old != before.end() && key_of(*old) == key_of(row);
    const bool is_unchanged = is_known && *old == row;
    if (is_known) ++old;
    if (is_unchanged) continue;
    if (Status written = put.put(row); !written) return written;
  }
  for (; old != before.end(); ++old) {
    if (Status removed = remove.remove(*old); !removed) return removed;
  }
  return ok();
}

template <typename Row>
void sort_rows(std::vector<Row>& rows) {
  std::ranges::sort(rows, [](const Row& a, const Row& b) { return key_of(a) < key_of(b); });
}

void sort_rows(StoredState& state) {
  sort_rows(state.listeners);
  sort_rows(state.groups);
  sort_rows(state.targets);
}

// Reads rows with ranges checked: the file is input. `bad` remembers the first violation.
class RowReader {
 public:
  explicit RowReader(Statement statement) : statement_(std::move(statement)) {}

  [[nodiscard]] Result<bool> next() {
    column_ = 0;
    return statement_.step();
  }
  template <typename T>
  T number(std::int64_t min, std::int64_t max, const char* what) {
    const std::int64_t value = statement_.integer(column_++);
    if (value < min || value > max) note_impossible(what, std::to_string(value));
    return static_cast<T>(value);
  }
  bool flag(const char* what) { return number<int>(0, 1, what) == 1; }
  Protocol protocol(const char* what) {
    const std::int64_t value = statement_.integer(column_++);
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp, Protocol::tcp_udp}) {
      if (value == static_cast<std::int64_t>(protocol)) return protocol;
    }
    note_impossible(what, std::to_string(value));
    return Protocol::tcp;
  }
  std::string text() { return statement_.text(column_++); }
  IpAddress address(const char* what) {
    const std::string text = statement_.text(column_++);
    const std::optional<IpAddress> address = IpAddress::parse(text);
    if (!address) note_impossible(what, text);
    return address.value_or(IpAddress{});
  }
  [[nodiscard]] const std::string& bad() const { return bad_; }
  void note(std::string bad) {
    if (bad_.empty()) bad_ = std::move(bad);
  }

 private:
  void note_impossible(const char* what, const std::string& value) {
    note(std::string(what) + " '" + value + "' is impossible");
  }

  Statement statement_;
  int column_ = 0;
  std::string bad_;
};

constexpr std::int64_t kIdMax = 0xffffffff;

StoredListener read_row(RowReader& row, const StoredListener&) {
  StoredListener out;
  out.vip = row.address("listener VIP");
  const bool is_tcp =
      row.number<int>(MR_PROTOCOL_TCP, MR_PROTOCOL_UDP, "listener protocol") == MR_PROTOCOL_TCP;
  out.protocol = is_tcp ? Protocol::tcp : Protocol::udp;
  out.port = row.number<std::uint16_t>(0, 65535, "listener port");
  out.slot = row.number<std::uint32_t>(0, MR_LISTENER_SLOTS_MAX - 1, "listener slot");
  out.id = row.number<std::uint32_t>(1, kIdMax, "listener id");
  return out;
}

StoredGroup read_row(RowReader& row, const StoredGroup&) {
  StoredGroup out;
  const std::string name = row.text();
  out.slot = row.number<std::uint32_t>(0, MR_GROUP_SLOTS_MAX - 1, "target group slot");
  out.id = row.number<std::uint32_t>(1, kIdMax, "target group id");
  out.settings = default_target_group(row.protocol("protocol"));
  out.settings.name = name;
  out.settings.port = row.number<std::uint16_t>(0, 65535, "target group port");
  out.listener_port = row.number<std::uint16_t>(0, 65535, "listener port");
  const Status read = read_settings(row.text(), out.settings);
  if (!read) row.note(read.error().within(name).message);
  return out;
}

StoredTarget read_row(RowReader& row, const StoredTarget&) {
  StoredTarget out;
  out.key.group = row.text();
  out.key.address = row.address("target address");
  out.key.port = row.number<std::uint16_t>(0, 65535, "target port");
  out.slot = row.number<std::uint32_t>(0, MR_TARGET_SLOTS_MAX - 1, "target slot");
  out.id = row.number<std::uint32_t>(1, kIdMax, "target id");
  out.weight = row.number<std::uint32_t>(0, 999, "target weight");
  out.zone = row.text();
  out.is_configured = row.flag("is_configured");
  out.is_operator_drained = row.flag("is_operator_drained");
  out.registration = row.number<Registration>(0, 2, "registration");
  out.drain_deadline_ns = row.number<std::uint64_t>(0, INT64_MAX, "drain deadline");
  out.health_state = row.number<TargetState>(0, 2, "health state");
  out.health_reason = row.number<HealthReason>(
      0, static_cast<int>(HealthReason::deregistration_in_progress), "health reason");
  out.health_description = row.text();
  return out;
}

template <typename Row>
Status read_rows(const Database& database, const std::string& table, std::vector<Row>& out) {
  Result<Statement> statement = database.prepare("SELECT * FROM " + table + " ORDER BY slot");
  if (!statement) return statement.error();
  RowReader row(std::move(*statement));
  std::set<std::uint32_t> slots;
  for (;;) {
    Result<bool> more = row.next();
    if (!more) return more.error();
    if (!*more) return ok();
    out.push_back(read_row(row, Row{}));
    if (!row.bad().empty()) return Error{"table " + table + ": " + row.bad()};
    if (!slots.insert(out.back().slot).second) {
      return Error{"table " + table + ": slot " + std::to_string(out.back().slot) +
                   " is used twice"};
    }
  }
}

std::uint64_t parse_number(const std::string& text) {
  std::uint64_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value);  // 0 when it is no number
  return value;
}

Error damaged(const std::string& path, const Error& cause) {
  return Error{path + ": damaged (" + cause.message +
               "); move it away to start without it (what is in force is kept as it is, operators' "
               "drains are forgotten)"};
}
}  // namespace

Result<StateStore> StateStore::open(const std::string& path) {
  Result<Database> database = Database::open(path);
  if (!database) return database.error();
  StateStore store(std::move(*database), path);
  if (Status prepared = store.prepare_schema(); !prepared) return prepared.error();
  if (Status loaded = store.load(); !loaded) return damaged(path, loaded.error());
  return store;
}

Status StateStore::prepare_schema() {
  // quick_check reads every page; a file that is no database at all fails here as well.
  Result<std::string> verdict = database_.ask("PRAGMA quick_check(1)");
  if (!verdict) return damaged(path_, verdict.error());
  if (*verdict != "ok") return damaged(path_, Error{*verdict});
  Result<std::string> version = database_.ask("PRAGMA user_version");
  if (!version) return damaged(path_, version.error());
  const std::uint64_t found = parse_number(*version);
  if (found > kSchemaVersion) {
    return Error{path_ + ": schema version " + *version + " is newer than this program's " +
                 std::to_string(kSchemaVersion) +
                 "; install the release that wrote it, or move the file away"};
  }
  for (const char* pragma : {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"}) {
    if (Status set = database_.run(pragma); !set) return set.error().within(path_);
  }
  if (found == kSchemaVersion) return ok();
  std::vector<std::string> statements = {"BEGIN IMMEDIATE"};
  for (std::uint64_t i = found; i < kSchemaVersion; ++i) {
    const std::vector<std::string>& step = kSchemaSteps[i];
    statements.insert(statements.end(), step.begin(), step.end());
  }
  statements.push_back("PRAGMA user_version = " + std::to_string(kSchemaVersion));
  statements.emplace_back("COMMIT");
  for (const std::string& statement : statements) {
    if (Status done = database_.run(statement); !done) {
      return done.error().within("cannot write " + path_);
    }
  }
  return ok();
}

Status StateStore::load() {
  Result<Statement> settings = database_.prepare("SELECT name, value FROM settings");
  if (!settings) return settings.error();
  for (;;) {
    Result<bool> more = settings->step();
    if (!more) return more.error();
    if (!*more) break;
    const std::string name = settings->text(0);
    const std::string value = settings->text(1);
    if (name == "id_floor") state_.id_floor = static_cast<std::uint32_t>(parse_number(value));
    if (name == "generation_floor") state_.generation_floor = parse_number(value);
    if (name == "config_text") state_.config.text = value;
    if (name == "config_source") state_.config.source = value;
    if (name == "config_applied_ns") state_.config.applied_ns = parse_number(value);
    if (name == "config_file_text") state_.config.file_text = value;
    if (name == "config_is_from_file") state_.config.is_from_file = value == "1";
  }
  state_.id_floor = std::max<std::uint32_t>(state_.id_floor, 1);
  if (Status read = read_rows(database_, "listeners", state_.listeners); !read) return read;
  if (Status read = read_rows(database_, "target_groups", state_.groups); !read) return read;
  if (Status read = read_rows(database_, "targets", state_.targets); !read) return read;
  sort_rows(state_);
  return ok();
}

Status StateStore::save(StoredState state) {
  sort_rows(state);
  Status written = transact([&] { return write_changes(state); });
  if (written) state_ = std::move(state);
  return written;
}

Status StateStore::save_id_floor(std::uint32_t id_floor) {
  Status written = transact([&] { return put_setting("id_floor", std::to_string(id_floor)); });
  if (written) state_.id_floor = id_floor;
  return written;
}

Status StateStore::save_targets(std::span<const StoredTarget> targets) {
  std::vector<std::pair<StoredTarget*, const StoredTarget*>> changed;
  for (const StoredTarget& target : targets) {
    const auto known = std::ranges::lower_bound(state_.targets, target.key, {}, &StoredTarget::key);
    if (known == state_.targets.end() || known->key != target.key || *known == target) continue;
    changed.emplace_back(&*known, &target);
  }
  if (changed.empty()) return ok();
  Status written = transact([&] {
    RowWriter put(database_, kTargetSql.put);
    for (const auto& [known, target] : changed) {
      if (Status done = put.put(*target); !done) return done;
    }
    return ok();
  });
  if (!written) return written;
  for (const auto& [known, target] : changed) *known = *target;
  return ok();
}

// All that `write` does to the file, or nothing.
template <typename Write>
Status StateStore::transact(Write write) {
  Status written = database_.run("BEGIN IMMEDIATE");
  if (!written) return written.error().within("cannot write " + path_);
  written = write();
  if (written) written = database_.run("COMMIT");
  if (written) return ok();
  (void)database_.run("ROLLBACK");  // SQLite may have rolled back already, which is fine too
  return written.error().within("cannot write " + path_);
}

Status StateStore::write_changes(const StoredState& state) {
  if (Status s = write_settings(state); !s) return s;
  if (Status s = write_rows(database_, kListenerSql, state_.listeners, state.listeners); !s) {
    return s;
  }
  if (Status s = write_rows(database_, kGroupSql, state_.groups, state.groups); !s) return s;
  return write_rows(database_, kTargetSql, state_.targets, state.targets);
}

Status StateStore::write_settings(const StoredState& state) {
  const std::vector<std::tuple<const char*, std::string, std::string>> settings = {
      {"id_floor", std::to_string(state_.id_floor), std::to_string(state.id_floor)},
      {"generation_floor", std::to_string(state_.generation_floor),
       std::to_string(state.generation_floor)},
      {"config_text", state_.config.text, state.config.text},
      {"config_source", state_.config.source, state.config.source},
      {"config_applied_ns", std::to_string(state_.config.applied_ns),
       std::to_string(state.config.applied_ns)},
      {"config_file_text", state_.config.file_text, state.config.file_text},
      {"config_is_from_file", state_.config.is_from_file ? "1" : "0",
       state.config.is_from_file ? "1" : "0"}};
  for (const auto& [name, before, after] : settings) {
    if (Status put = before == after ? ok() : put_setting(name, after); !put) return put;
  }
  return ok();
}

Status StateStore::put_setting(const char* name, const std::string& value) {
  Result<Statement> put = database_.prepare("INSERT OR REPLACE INTO settings VALUES (?, ?)");
  if (!put) return put.error();
  put->bind(std::string(name)).bind(value);
  if (Result<bool> done = put->step(); !done) return done.error();
  return ok();
}

}  // namespace millrace::control
