// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/cli.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <chrono>
#include <ostream>
#include <string_view>
#include <system_error>
#include <thread>

#include "controlplane/api/client.h"
#include "controlplane/cli/command_line.h"
#include "controlplane/cli/endpoint.h"
#include "controlplane/cli/render.h"
#include "controlplane/cli/top.h"
#include "controlplane/config/load.h"
#include "controlplane/yaml/utf8.h"
#include "dataplane/core/counted.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

// What one API request may ask for at most (api/commands.cc).
constexpr std::uint32_t kFlowsPerRequest = 1000;
// A control plane that hangs must not keep a crashed engine waiting for longer.
constexpr std::chrono::seconds kEnginePatience{1};

// Where the API says that a field of a request is wrong, which is a word or an option here.
constexpr std::string_view kRequest = "request.";

json::value answer_of(const std::vector<ConfigError>& errors) {
  json::array list;
  for (const ConfigError& error : errors) {
    list.push_back({{"place", error.place}, {"reason", error.reason}});
  }
  return {{"ok", false}, {"errors", std::move(list)}};
}

// What every error is with --json as well: an answer on stdout.
int refuse_words(const std::string& message, bool json, std::ostream& out, std::ostream& err) {
  err << message << "\n";
  if (json) out << json::serialize(answer_of({{"command line", message}})) << "\n";
  return kExitUsage;
}

class Cli {
 public:
  Cli(const CommandLine& line, std::ostream& out, std::ostream& err, bool is_terminal)
      : line_(line), out_(out), err_(err), is_terminal_(is_terminal) {}

  [[nodiscard]] int run();

 private:
  using Render = std::string (*)(JsonView);
  struct WantedEngine {
    std::string kind;   // "" when nobody can say
    std::string place;  // who says so, or why nobody can
  };

  [[nodiscard]] int show(const json::object& request, Render render);
  [[nodiscard]] int validate();
  [[nodiscard]] int rehearse(const std::string& file, const std::string& text,
                             const Config& config);
  [[nodiscard]] int apply();
  [[nodiscard]] int reload();
  [[nodiscard]] int engine();
  [[nodiscard]] int drain(const char* command);
  [[nodiscard]] int explain();
  [[nodiscard]] int flows();
  [[nodiscard]] int top();

  [[nodiscard]] WantedEngine wanted_engine() const;
  // The result of `request`, or none after the reason was printed.
  [[nodiscard]] std::optional<json::value> ask(const json::object& request);
  // The same of a request that changes something: says as well what became of the change.
  [[nodiscard]] std::optional<json::value> change(const json::object& request);
  [[nodiscard]] std::optional<json::value> ask_flows(json::object request);
  [[nodiscard]] std::optional<TopSample> take_sample();
  // Adds `key` and `key`_port to `request` from ADDRESS[:PORT].
  [[nodiscard]] bool add_endpoint(json::object& request, const std::string& key,
                                  const std::string& text, bool needs_port);
  void print_errors(const json::value& answer);
  void print_warnings(const json::value& result);
  [[nodiscard]] int print(const json::value& result, const std::string& text) {
    out_ << (line_.json ? json::serialize(result) + "\n" : text);
    return exit_code_of(result);
  }
  // An answer names under "problems" what could not be read: it is printed, but is not whole.
  [[nodiscard]] static int exit_code_of(const json::value& result) {
    return JsonView(&result)["problems"].items().empty() ? kExitDone : kExitFailed;
  }
  [[nodiscard]] int usage(const std::string& message) {
    return refuse_words("millrace: " + message, line_.json, out_, err_);
  }

  const CommandLine& line_;
  std::ostream& out_;
  std::ostream& err_;
  bool is_terminal_;
  bool is_outcome_known_ = true;
};

int Cli::run() {
  switch (line_.command) {
    case CommandKind::status:
      return show({{"command", "status"}}, render_status);
    case CommandKind::targets: {
      json::object request{{"command", "targets"}};
      if (!line_.words.empty()) request["target_group"] = line_.words[0];
      return show(request, render_targets);
    }
    case CommandKind::listeners:
      return show({{"command", "listeners"}}, render_listeners);
    case CommandKind::counters: {
      const Render with_zeros = [](JsonView counters) { return render_counters(counters, true); };
      const Render without = [](JsonView counters) { return render_counters(counters, false); };
      return show({{"command", "counters"}}, line_.all ? with_zeros : without);
    }
    case CommandKind::validate:
      return validate();
    case CommandKind::apply:
      return apply();
    case CommandKind::reload:
      return reload();
    case CommandKind::engine:
      return engine();
    case CommandKind::drain:
      return drain("drain");
    case CommandKind::undrain:
      return drain("undrain");
    case CommandKind::explain:
      return explain();
    case CommandKind::flows:
      return flows();
    case CommandKind::top:
      return top();
  }
  return kExitFailed;
}

int Cli::show(const json::object& request, Render render) {
  const auto result = ask(request);
  if (!result) return kExitFailed;
  return print(*result, render(&*result));
}

std::optional<json::value> Cli::ask(const json::object& request) {
  auto client = ApiClient::connect(line_.socket);
  const auto answer = client ? client->call(request) : Result<json::value>(client.error());
  if (!answer) {
    is_outcome_known_ = !client;  // else the control plane may have the request
    err_ << "millrace: " << answer.error().message << "\n";
    if (line_.json) {
      out_ << json::serialize(answer_of({{line_.socket, answer.error().message}})) << "\n";
    }
    return std::nullopt;
  }
  const json::object& fields = answer->get_object();
  if (JsonView(&*answer)["ok"].flag() && fields.contains("result")) return fields.at("result");
  print_errors(*answer);
  return std::nullopt;
}

std::optional<json::value> Cli::change(const json::object& request) {
  auto result = ask(request);
  if (result) {
    print_warnings(*result);
  } else {
    err_ << (is_outcome_known_
                 ? "millrace: nothing was changed\n"
                 : "millrace: no answer came, and the change may have been made all the same: "
                   "`millrace status` and `millrace targets` tell\n");
  }
  return result;
}

// For people on stderr; with --json also the whole answer on stdout.
void Cli::print_errors(const json::value& answer) {
  for (const JsonView error : JsonView(&answer)["errors"].items()) {
    const std::string place = error["place"].text();
    const bool is_request = place.starts_with(kRequest);
    err_ << (is_request ? "millrace: " + place.substr(kRequest.size()) : place) << ": "
         << error["reason"].text() << "\n";
  }
  if (line_.json) out_ << json::serialize(answer) << "\n";
}

int Cli::validate() {
  const std::string file = line_.words[0] == "-" ? "standard input" : line_.words[0];
  const auto text = read_given_file(line_.words[0]);
  if (const auto* error = std::get_if<ConfigError>(&text)) {
    print_errors(answer_of({*error}));
    return kExitFailed;
  }
  const auto loaded = load_config(std::get<std::string>(text), file);
  if (const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded)) {
    print_errors(answer_of(*errors));
    return kExitFailed;
  }
  return rehearse(file, std::get<std::string>(text), std::get<Config>(loaded));
}

// A control plane that runs here knows what the file does not show: the node's own addresses, and
// what else takes room.
int Cli::rehearse(const std::string& file, const std::string& text, const Config& config) {
  std::size_t listeners = 0;
  std::size_t targets = 0;
  for (const LoadBalancer& balancer : config.load_balancers) {
    listeners += balancer.addresses.size() * balancer.listeners.size();
  }
  for (const TargetGroup& group : config.target_groups) targets += group.targets.size();
  json::object answer{{"load_balancers", config.load_balancers.size()},
                      {"listeners", listeners},
                      {"target_groups", config.target_groups.size()},
                      {"targets", targets},
                      {"apply", nullptr}};
  std::string here;
  if (ApiClient::is_nobody_there(line_.socket)) {
    here = "No control plane answers at " + line_.socket + " to say what apply would change";
  } else if (const auto client = ApiClient::connect(line_.socket); !client) {
    here = "What apply would change is unknown: " + client.error().message;
  } else {
    const auto outcome = ask({{"command", "validate"}, {"name", file}, {"text", text}});
    if (!outcome) return kExitFailed;
    print_warnings(*outcome);
    here = render_rehearsed(&*outcome);
    answer["apply"] = *outcome;
  }
  return print(answer, file + ": good. " +
                           core::counted(config.load_balancers.size(), "load balancer") + ", " +
                           core::counted(listeners, "listener") + ", " +
                           core::counted(config.target_groups.size(), "target group") + ", " +
                           core::counted(targets, "target") + ". " + here + "\n");
}

void Cli::print_warnings(const json::value& result) {
  for (const JsonView warning : JsonView(&result)["warnings"].items()) {
    err_ << "millrace: warning: " << warning.text() << "\n";
  }
}

int Cli::apply() {
  const std::string file = line_.words[0] == "-" ? "standard input" : line_.words[0];
  auto text = read_given_file(line_.words[0]);
  if (const auto* error = std::get_if<ConfigError>(&text)) {
    print_errors(answer_of({*error}));
    return kExitFailed;
  }
  // A file that is no text cannot be sent as JSON. Any other is the control plane's to refuse,
  // which remembers that it was.
  if (find_bad_utf8(std::get<std::string>(text))) {
    const auto checked = load_config(std::get<std::string>(text), file);
    if (const auto* errors = std::get_if<std::vector<ConfigError>>(&checked)) {
      print_errors(answer_of(*errors));
    }
    err_ << "millrace: nothing was changed\n";
    return kExitFailed;
  }
  const auto result =
      change({{"command", "apply"}, {"name", file}, {"text", std::get<std::string>(text)}});
  if (!result) return kExitFailed;
  return print(*result, render_applied(&*result, file));
}

int Cli::reload() {
  const auto result = change({{"command", "reload"}});
  if (!result) return kExitFailed;
  return print(*result, render_applied(&*result, JsonView(&*result)["file"].text()));
}

// Whoever knows for sure: the control plane, whose config may come from `apply`; without one the
// file, which is what a control plane reads that starts. Nobody while a control plane hangs.
Cli::WantedEngine Cli::wanted_engine() const {
  if (!ApiClient::is_nobody_there(line_.socket)) {
    auto client = ApiClient::connect(line_.socket, kEnginePatience);
    const auto answer = client ? client->call({{"command", "status"}}) : client.error();
    if (!answer) return {"", answer.error().message};
    return {JsonView(&*answer)["result"]["engine"]["wanted_kind"].text(), "the config in force"};
  }
  const auto text = read_config_file(line_.config);
  if (const auto* error = std::get_if<ConfigError>(&text)) return {"", to_string(*error)};
  const auto kind = load_engine_kind(std::get<std::string>(text));
  if (!kind)
    return {"", line_.config + ": no good config, and names no engine (millrace validate)"};
  return {to_string(*kind), line_.config};
}

int Cli::engine() {
  const std::string& asked = line_.words[0];
  const auto [kind, place] = wanted_engine();
  const json::object result{{"engine", kind.empty() ? json::value() : json::value(kind)},
                            {"place", place}};
  if (kind.empty()) {
    return print(result, "nobody can say which engine this node is to run; " + asked +
                             " is as good as the other. " + place + "\n");
  }
  (void)print(result, place + ": node.engine is " + kind + "\n");
  return kind == asked ? kExitDone : kExitOther;
}

bool Cli::add_endpoint(json::object& request, const std::string& key, const std::string& text,
                       bool needs_port) {
  const auto endpoint = parse_endpoint(text);
  if (!endpoint) {
    (void)usage(endpoint.error().message);  // the caller returns the exit code
    return false;
  }
  if (needs_port && !endpoint->port) {
    (void)usage("'" + text + "' needs a port: write ADDRESS:PORT, or [ADDRESS]:PORT for IPv6");
    return false;
  }
  request[key] = endpoint->address.to_string();
  const std::string port_key = key == "address" ? "port" : key + "_port";
  if (endpoint->port) request[port_key] = *endpoint->port;
  return true;
}

int Cli::drain(const char* command) {
  json::object request{{"command", command}, {"target_group", line_.words[0]}};
  if (!add_endpoint(request, "address", line_.words[1], false)) return kExitUsage;
  const auto result = change(request);
  if (!result) return kExitFailed;
  const JsonView view(&*result);
  const std::string what =
      line_.command == CommandKind::undrain
          ? (view["warnings"].items().empty() ? "gets new flows as soon as it is healthy"
                                              : "is no longer drained by the operator")
      : view["was_drained"].flag() ? "is drained already; nothing was changed"
                                   : "gets no new flows; `millrace targets` shows the time left";
  return print(*result, view["target"].text() + ": " + what + "\n");
}

std::string upper(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

int Cli::explain() {
  json::object request{{"command", "explain"}, {"protocol", upper(line_.words[2])}};
  if (!add_endpoint(request, "client", line_.words[0], true) ||
      !add_endpoint(request, "vip", line_.words[1], true)) {
    return kExitUsage;
  }
  return show(request, render_explain);
}

int Cli::flows() {
  json::object request{{"command", "flows"}};
  const std::pair<const char*, const std::string*> endpoints[] = {
      {"client", &line_.client}, {"vip", &line_.vip}, {"target", &line_.target}};
  for (const auto& [key, text] : endpoints) {
    if (!text->empty() && !add_endpoint(request, key, *text, false)) return kExitUsage;
  }
  if (!line_.protocol.empty()) request["protocol"] = upper(line_.protocol);
  if (!line_.target_group.empty()) request["target_group"] = line_.target_group;
  if (!line_.state.empty()) request["state"] = line_.state;
  const auto result = ask_flows(std::move(request));
  if (!result) return kExitFailed;
  return print(*result, render_flows(&*result));
}

// A request looks at a part of the tables only; this goes on until there are enough, or no more.
std::optional<json::value> Cli::ask_flows(json::object request) {
  json::array flows;
  json::array problems;
  std::uint64_t records_seen = 0;
  while (true) {
    const auto left = static_cast<std::uint32_t>(line_.limit - flows.size());
    request["limit"] = std::min(left, kFlowsPerRequest);
    auto part = ask(request);
    if (!part) return std::nullopt;
    const JsonView view(&*part);
    for (const JsonView flow : view["flows"].items()) flows.push_back(*flow.raw());
    for (const JsonView problem : view["problems"].items()) problems.push_back(*problem.raw());
    records_seen += view["records_seen"].whole();
    const JsonView next = view["next"];
    if (next.is_null() || flows.size() >= line_.limit) {
      json::object all = part->is_object() ? part->get_object() : json::object{};
      all["flows"] = std::move(flows);
      all["problems"] = std::move(problems);
      all["records_seen"] = records_seen;
      return all;
    }
    request["from_worker"] = next["from_worker"].whole();
    request["from_record"] = next["from_record"].whole();
  }
}

std::optional<TopSample> Cli::take_sample() {
  TopSample sample;
  const std::pair<const char*, json::value*> parts[] = {{"status", &sample.status},
                                                        {"listeners", &sample.listeners},
                                                        {"targets", &sample.targets},
                                                        {"counters", &sample.counters}};
  for (const auto& [command, into] : parts) {
    auto result = ask({{"command", command}});
    if (!result) return std::nullopt;
    *into = std::move(*result);
  }
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  sample.at_seconds = std::chrono::duration<double>(now).count();
  return sample;
}

int Cli::top() {
  std::optional<TopSample> before = take_sample();
  while (before) {
    std::this_thread::sleep_for(std::chrono::duration<double>(line_.interval_seconds));
    std::optional<TopSample> after = take_sample();
    if (!after) break;
    if (is_terminal_ && !line_.once) out_ << "\x1b[H\x1b[2J";  // home, clear the screen
    (void)print({{"status", after->status},
                 {"listeners", after->listeners},
                 {"targets", after->targets},
                 {"counters", after->counters}},
                render_top(*before, *after));
    if (line_.once) return exit_code_of(after->status);
    if (!is_terminal_ && !line_.json) out_ << "\n";
    out_.flush();
    if (!out_) return kExitFailed;  // the reader of the pipe is gone
    before = std::move(after);
  }
  return kExitFailed;
}

int run_words(const std::vector<std::string>& args, std::ostream& out, std::ostream& err,
              bool is_terminal) {
  const auto parsed = parse_command_line(args);
  if (const auto* help = std::get_if<HelpText>(&parsed)) {
    out << help->text;
    return kExitDone;
  }
  if (const auto* error = std::get_if<UsageError>(&parsed)) {
    const bool is_json = std::ranges::find(args, "--json") != args.end();
    return refuse_words(error->message, is_json, out, err);
  }
  return Cli(std::get<CommandLine>(parsed), out, err, is_terminal).run();
}

}  // namespace

int run_cli(const std::vector<std::string>& args, std::ostream& out, std::ostream& err,
            bool is_terminal) {
  const int code = run_words(args, out, err, is_terminal);
  if (out) {  // else errno still says why not
    errno = 0;
    out.flush();
  }
  if (out) return code;
  err << "millrace: cannot write to standard output: "
      << (errno == 0 ? "write error" : std::generic_category().message(errno)) << "\n";
  return kExitFailed;
}

}  // namespace millrace::control
