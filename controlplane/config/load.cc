// SPDX-License-Identifier: Apache-2.0
//
// From file to Config: node, load balancers and listeners are read here. Cold.
#include "controlplane/config/load.h"

#include <utility>

#include "controlplane/config/attribute_reader.h"
#include "controlplane/config/draft.h"
#include "controlplane/model/attribute_tables.h"
#include "controlplane/yaml/reader.h"
#include "controlplane/yaml/yaml_tree.h"

namespace millrace::control {
namespace {

constexpr std::size_t kNodeNameLengthMax = 63;

ConfigDraft read_config(const Cursor& root, ErrorList& errors);
void read_node(const Cursor& at, ConfigDraft& draft, ErrorList& errors);
void read_encap_sources(const Cursor& at, ConfigDraft& draft, ErrorList& errors);
LoadBalancerDraft read_load_balancer(const Cursor& at, ErrorList& errors);
ListenerDraft read_listener(const Cursor& at, ErrorList& errors);
void read_listener_groups(const MapReader& map, ListenerDraft& draft, ErrorList& errors);
template <typename Subject>
void read_attributes(const Cursor& at, std::span<const Attribute<Subject>> rows, Subject& settings,
                     ErrorList& errors);

std::vector<ConfigError> single_error(const std::string& name, const YamlProblem& problem) {
  ErrorList errors(name);
  errors.add(problem.place, "", problem.reason);
  return errors.take();
}

}  // namespace

LoadResult load_config(std::string_view yaml_text, const std::string& name,
                       const FindOwnInterface& own_interface) {
  const auto parsed = parse_yaml(yaml_text);
  if (const auto* problem = std::get_if<YamlProblem>(&parsed)) return single_error(name, *problem);
  const YamlNodePtr root = std::get<YamlNodePtr>(parsed);
  if (root->kind == YamlNode::Kind::null) {
    return single_error(name, {{},
                               "the file is empty; to remove everything on purpose, write "
                               "`load_balancers: []`"});
  }
  ErrorList errors(name);
  Config config = check_config(read_config({root, ""}, errors), own_interface, errors);
  if (!errors.empty()) return errors.take();
  return config;
}

LoadResult load_config_file(const std::string& path, const FindOwnInterface& own_interface) {
  auto read = read_config_file(path);
  if (auto* error = std::get_if<ConfigError>(&read)) {
    return std::vector<ConfigError>{std::move(*error)};
  }
  return load_config(std::get<std::string>(read), path, own_interface);
}

std::optional<EngineKind> load_engine_kind(std::string_view yaml_text) {
  const auto parsed = parse_yaml(yaml_text);
  const auto* root = std::get_if<YamlNodePtr>(&parsed);
  if (root == nullptr) return std::nullopt;
  ErrorList ignored("");  // load_config() tells them
  const auto node = MapReader({*root, ""}, {"node"}, ignored).find("node");
  const auto engine = node ? MapReader(*node, {"engine"}, ignored).find("engine") : std::nullopt;
  if (engine) return read_engine(*engine, ignored);
  const LoadResult loaded = load_config(yaml_text, "");
  const auto* config = std::get_if<Config>(&loaded);
  return config == nullptr ? std::nullopt : std::optional(config->node.engine);
}

std::optional<EngineKind> read_engine(const Cursor& at, ErrorList& errors) {
  return read_word<EngineKind>(at, {{"dpdk", EngineKind::dpdk}, {"xdp", EngineKind::xdp}}, errors);
}

namespace {

ConfigDraft read_config(const Cursor& root, ErrorList& errors) {
  ConfigDraft draft;
  const MapReader map(root, {"node", "load_balancers", "target_groups"}, errors);
  if (const auto node = map.find("node")) read_node(*node, draft, errors);
  if (const auto list = map.require("load_balancers", "a list, [] for none")) {
    for (const Cursor& at : read_list(*list, errors).value_or(std::vector<Cursor>{})) {
      draft.load_balancers.push_back(read_load_balancer(at, errors));
    }
  }
  if (const auto list = map.find("target_groups")) {
    for (const Cursor& at : read_list(*list, errors).value_or(std::vector<Cursor>{})) {
      draft.target_groups.push_back(read_target_group(at, errors));
    }
  }
  return draft;
}

void read_node(const Cursor& at, ConfigDraft& draft, ErrorList& errors) {
  Node& node = draft.node;
  const MapReader map(
      at, {"name", "zone", "selection_key", "lookup_seed", "engine", "encap_source"}, errors);
  if (const auto name = map.find("name")) {
    node.name = read_name(*name, kNodeNameLengthMax, errors).value_or("");
  }
  if (const auto zone = map.find("zone")) {
    node.zone = read_name(*zone, kNameLengthMax, errors).value_or("");
  }
  if (const auto key = map.find("selection_key")) {
    const Hex128 value = read_hex(*key, 32, errors).value_or(Hex128{});
    node.selection_key[0] = value.high;
    node.selection_key[1] = value.low;
  }
  if (const auto seed = map.find("lookup_seed")) {
    node.lookup_seed = read_hex(*seed, 16, errors).value_or(Hex128{}).low;
  }
  if (const auto engine = map.find("engine")) {
    node.engine = read_engine(*engine, errors).value_or(EngineKind::dpdk);
  }
  if (const auto sources = map.find("encap_source")) read_encap_sources(*sources, draft, errors);
}

void read_encap_sources(const Cursor& at, ConfigDraft& draft, ErrorList& errors) {
  for (const Cursor& item : read_list(at, errors).value_or(std::vector<Cursor>{})) {
    const auto source = read_encap_source(item, errors);
    if (!source) continue;
    auto& of_family =
        source->address.is_v4() ? draft.node.encap_source_v4 : draft.node.encap_source_v6;
    if (of_family) {
      errors.add(item, source->to_string() + " is of the same address family as " +
                           of_family->to_string() + "; one of each is possible");
    }
    of_family = *source;
    draft.encap_sources.push_back({*source, item});
  }
}

LoadBalancerDraft read_load_balancer(const Cursor& at, ErrorList& errors) {
  LoadBalancerDraft draft;
  draft.at = at;
  const MapReader map(at, {"name", "type", "addresses", "attributes", "listeners"}, errors);
  if (const auto name = map.require("name", "what the load balancer is called")) {
    if (auto text = read_name(*name, kNameLengthMax, errors)) draft.name = {*text, *name};
  }
  if (const auto type = map.find("type")) {
    constexpr bool kNetwork = true;
    (void)read_word<bool>(*type,
                          {{"network", kNetwork},
                           {"gateway", false, "not supported by this version; only network is"},
                           {"application", false, "not supported; only network is"}},
                          errors);  // one type is possible, so there is nothing to keep
  }
  if (const auto list = map.require("addresses", "a list of its VIPs, at least one")) {
    const auto items = read_list(*list, errors);
    if (items && items->empty()) errors.add(*list, "is empty; must name at least one VIP");
    draft.has_all_addresses = items && !items->empty();
    for (const Cursor& item : items.value_or(std::vector<Cursor>{})) {
      const std::vector<IpAddress> vips = read_addresses(item, errors);
      draft.has_all_addresses = draft.has_all_addresses && !vips.empty();
      for (const IpAddress& vip : vips) draft.addresses.push_back({vip, item});
    }
  }
  if (const auto attributes = map.find("attributes")) {
    read_attributes(*attributes, load_balancer_attributes(), draft.settings, errors);
  }
  if (const auto list = map.find("listeners")) {
    for (const Cursor& item : read_list(*list, errors).value_or(std::vector<Cursor>{})) {
      draft.listeners.push_back(read_listener(item, errors));
    }
  }
  return draft;
}

ListenerDraft read_listener(const Cursor& at, ErrorList& errors) {
  ListenerDraft draft;
  draft.at = at;
  const MapReader map(
      at, {"protocol", "port", "default_target_group", "default_target_groups", "attributes"},
      errors);
  if (const auto protocol = map.require("protocol", "TCP, UDP or TCP_UDP")) {
    if (const auto value = read_protocol(*protocol, errors)) draft.protocol = {*value, *protocol};
    if (draft.protocol) draft.settings.protocol = draft.protocol->value;
  }
  if (const auto port = map.require("port", "1-65535, a range as 1000-2000, or any")) {
    if (const auto value = read_ports(*port, errors)) draft.ports = {*value, *port};
  }
  read_listener_groups(map, draft, errors);
  if (const auto attributes = map.find("attributes")) {
    read_attributes(*attributes, listener_attributes(), draft.settings, errors);
  }
  return draft;
}

void read_listener_groups(const MapReader& map, ListenerDraft& draft, ErrorList& errors) {
  const auto read_into = [&](std::optional<Placed<std::string>>& into, const Cursor& at) {
    if (auto text = read_text(at, errors)) into = {*text, at};
  };
  const auto single = map.find("default_target_group");
  const auto pair = map.find("default_target_groups");
  if (single && pair) {
    errors.add(*pair, "default_target_group is given too; keep one of the two");
    return;
  }
  if (single) return read_into(draft.group, *single);
  if (!pair) {
    (void)map.require("default_target_group", "the name of the target group that gets the flows");
    return;
  }
  const MapReader families(*pair, {"ipv4", "ipv6"}, errors);
  if (const auto v4 = families.find("ipv4")) read_into(draft.group_v4, *v4);
  if (const auto v6 = families.find("ipv6")) read_into(draft.group_v6, *v6);
}

template <typename Subject>
void read_attributes(const Cursor& at, std::span<const Attribute<Subject>> rows, Subject& settings,
                     ErrorList& errors) {
  std::vector<std::string_view> names;
  append_names(names, rows);
  AttributeReader<Subject> reader(settings, errors);
  reader.read(MapReader(at, names, errors), rows);
  reader.judge();
}

}  // namespace
}  // namespace millrace::control
