// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/top.h"

#include <algorithm>
#include <map>

#include "controlplane/cli/json_view.h"
#include "controlplane/cli/render.h"
#include "controlplane/cli/table.h"

namespace millrace::control {
namespace {

using Align = Table::Align;

class Screen {
 public:
  Screen(const TopSample& before, const TopSample& after)
      : before_(before),
        after_(after),
        seconds_(std::max(after.at_seconds - before.at_seconds, 0.001)) {}

  std::string text() const {
    if (is_unseen()) return head();  // all else is what the engine counts
    return head() + rates() + "\n" + workers() + "\n" + listeners() + "\n" + targets() + drops();
  }

 private:
  // Per second, from a counter's two values.
  [[nodiscard]] double rate(JsonView before, JsonView after) const {
    const double then = before.number();
    const double now = after.number();
    return (now >= then ? now - then : now) / seconds_;
  }
  [[nodiscard]] double total_rate(const char* counter) const {
    return rate(JsonView(&before_.counters)["counters"][counter],
                JsonView(&after_.counters)["counters"][counter]);
  }
  [[nodiscard]] bool is_unseen() const {
    return JsonView(&after_.status)["engine"]["unseen"].flag();
  }
  [[nodiscard]] std::string head() const;
  [[nodiscard]] std::string rates() const;
  [[nodiscard]] std::string workers() const;
  [[nodiscard]] std::string listeners() const;
  [[nodiscard]] std::string targets() const;
  [[nodiscard]] std::string drops() const;

  const TopSample& before_;
  const TopSample& after_;
  double seconds_;
};

std::string Screen::head() const {
  const JsonView status(&after_.status);
  const JsonView engine = status["engine"];
  std::string text =
      status["node"].text() + ": generation " + std::to_string(status["generation"].whole()) +
      ", engine " +
      (engine["running"].flag() ? "up " + duration_text(engine["uptime_seconds"].whole())
                                : absent_engine_text(engine)) +
      "\n";
  for (const JsonView alarm : status["alarms"].items()) text += "ALARM " + alarm.text() + "\n";
  return text;
}

std::string Screen::rates() const {
  return "rx " + count_text(total_rate("rx_packets")) + " packets/s, " +
         bit_rate_text(total_rate("rx_bytes")) + "; forwarded " +
         count_text(total_rate("forwarded_packets")) + "/s, answered " +
         count_text(total_rate("replied_packets")) + "/s, to the kernel " +
         count_text(total_rate("punted_packets")) + "/s; new flows " +
         count_text(total_rate("flow_inserted")) + "/s\n";
}

std::string Screen::workers() const {
  Table table({{"WORKER", Align::right},
               {"CPU", Align::right},
               {"BUSY", Align::right},
               {"RX PACKETS/S", Align::right},
               {"FLOWS", Align::right},
               {"TABLE FULL", Align::right},
               {"STALLS", Align::right}});
  const auto before = JsonView(&before_.counters)["workers"].items();
  const auto after = JsonView(&after_.counters)["workers"].items();
  const auto status = JsonView(&after_.status)["engine"]["workers"].items();
  for (std::size_t i = 0; i < after.size(); ++i) {
    const JsonView then = i < before.size() ? before[i]["counters"] : JsonView(nullptr);
    const JsonView now = after[i]["counters"];
    const JsonView worker = i < status.size() ? status[i] : JsonView(nullptr);
    const double capacity = std::max(worker["flows_capacity"].number(), 1.0);
    table.add({std::to_string(after[i]["index"].whole()), std::to_string(worker["cpu"].whole()),
               share_text(rate(then["busy_ns"], now["busy_ns"]) / 1e9),
               count_text(rate(then["rx_packets"], now["rx_packets"])),
               count_text(worker["flows_active"].number()),
               share_text(worker["flows_active"].number() / capacity),
               count_text(now["stalls"].number())});
  }
  return table.text();
}

std::string listener_key(JsonView listener) {
  return listener["vip"].text() + " " + listener["protocol"].text() + " " +
         listener["port"].whole_or_text();
}

std::string Screen::listeners() const {
  Table table({{"VIP"},
               {"PROTOCOL"},
               {"PORT", Align::right},
               {"NEW FLOWS/S", Align::right},
               {"PACKETS/S", Align::right},
               {"BIT RATE", Align::right},
               {"REJECTED/S", Align::right}});
  std::map<std::string, JsonView> before;
  for (const JsonView listener : JsonView(&before_.listeners)["listeners"].items()) {
    before.emplace(listener_key(listener), listener);
  }
  for (const JsonView now : JsonView(&after_.listeners)["listeners"].items()) {
    const auto found = before.find(listener_key(now));
    const JsonView then = found == before.end() ? now : found->second;
    table.add({now["vip"].text(), now["protocol"].text(), now["port"].whole_or_text(),
               count_text(rate(then["new_flows"], now["new_flows"])),
               count_text(rate(then["packets"], now["packets"])),
               bit_rate_text(rate(then["bytes"], now["bytes"])),
               count_text(rate(then["rejected_flows"], now["rejected_flows"]))});
  }
  return table.text();
}

std::string Screen::targets() const {
  Table table({{"TARGET"},
               {"STATE"},
               {"SHARE", Align::right},
               {"ACTIVE FLOWS", Align::right},
               {"NEW FLOWS/S", Align::right},
               {"PACKETS/S", Align::right},
               {"BIT RATE", Align::right},
               {"NOTE"}});
  std::map<std::uint64_t, JsonView> before;
  for (const JsonView group : JsonView(&before_.targets)["target_groups"].items()) {
    for (const JsonView target : group["targets"].items()) {
      before.emplace(target["id"].whole(), target);
    }
  }
  for (const JsonView group : JsonView(&after_.targets)["target_groups"].items()) {
    for (const JsonView now : group["targets"].items()) {
      const auto found = before.find(now["id"].whole());
      const JsonView then = found == before.end() ? now : found->second;
      table.add({now["target"].text(), target_state(now), share_text(now["lookup_share"].number()),
                 count_text(now["active_flows"].number()),
                 count_text(rate(then["new_flows"], now["new_flows"])),
                 count_text(rate(then["packets"], now["packets"])),
                 bit_rate_text(rate(then["bytes"], now["bytes"])), target_note(now)});
    }
  }
  return table.text();
}

std::string Screen::drops() const {
  std::string text;
  for (const auto& [reason, now] : JsonView(&after_.counters)["drops"].fields()) {
    const double per_second = rate(JsonView(&before_.counters)["drops"][reason], now);
    if (per_second == 0) continue;
    text += (text.empty() ? "\nDropped: " : ", ") + reason + " " + count_text(per_second) + "/s";
  }
  return text.empty() ? "" : text + "\n";
}

}  // namespace

std::string render_top(const TopSample& before, const TopSample& after) {
  return Screen(before, after).text();
}

}  // namespace millrace::control
