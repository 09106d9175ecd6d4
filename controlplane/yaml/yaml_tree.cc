// SPDX-License-Identifier: Apache-2.0
//
// Builds the tree from yaml-cpp's events. Cold.
#include "controlplane/yaml/yaml_tree.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "controlplane/yaml/utf8.h"
#include "controlplane/yaml/yaml_advice.h"

namespace millrace::control {
namespace {

YamlPlace place_of(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {static_cast<std::uint32_t>(mark.line) + 1, static_cast<std::uint32_t>(mark.column) + 1};
}

// Collects events into nodes. After the first problem it ignores the rest: the parser has no way to
// be stopped but an exception, and we throw none.
class TreeBuilder final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { begin_ = place_of(mark); }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (problem_) return;
    close(make_node(YamlNode::Kind::null, mark), anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (problem_ || refuse_tag(mark, tag)) return;
    auto node = make_node(YamlNode::Kind::scalar, mark);
    node->quoted = tag == "!";
    node->scalar = value;
    close(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (problem_) return;
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) return report(mark, "an alias cannot stand inside its own anchor");
    attach(known->second, mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::list, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::map, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close_innermost(); }
  void OnMapEnd() override { close_innermost(); }

  [[nodiscard]] YamlNodePtr root() const { return root_; }
  [[nodiscard]] const YamlPlace& begin() const { return begin_; }
  [[nodiscard]] const std::optional<YamlProblem>& problem() const { return problem_; }

 private:
  struct Open {
    std::shared_ptr<YamlNode> node;
    YAML::anchor_t anchor;
    YamlNodePtr key;  // of a map: read, its value not yet
  };

  static std::shared_ptr<YamlNode> make_node(YamlNode::Kind kind, const YAML::Mark& mark) {
    auto node = std::make_shared<YamlNode>();
    node->kind = kind;
    node->place = place_of(mark);
    return node;
  }

  void report(const YAML::Mark& mark, std::string reason) {
    problem_ = YamlProblem{place_of(mark), std::move(reason)};
  }

  // "?" is a plain scalar's tag and "!" a quoted one's, as yaml-cpp tells them apart.
  bool refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return false;
    report(mark, "YAML tags (here " + tag + ") are not used in this file");
    return true;
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    if (problem_ || refuse_tag(mark, tag)) return;
    if (open_.size() >= kYamlDepthMax) {
      return report(mark, "nested deeper than " + std::to_string(kYamlDepthMax) + " levels");
    }
    open_.push_back({make_node(kind, mark), anchor, nullptr});
  }

  void close_innermost() {
    if (problem_) return;
    Open innermost = std::move(open_.back());
    open_.pop_back();
    close(std::move(innermost.node), innermost.anchor);
  }

  void close(std::shared_ptr<YamlNode> node, YAML::anchor_t anchor) {
    const YamlNodePtr done = std::move(node);
    if (anchor != 0) anchors_[anchor] = done;
    YAML::Mark mark;
    mark.line = static_cast<int>(done->place.line) - 1;
    mark.column = static_cast<int>(done->place.column) - 1;
    attach(done, mark);
  }

  void attach(const YamlNodePtr& child, const YAML::Mark& mark) {
    if (open_.empty()) {
      root_ = child;
      return;
    }
    Open& parent = open_.back();
    parent.node->node_count += child->node_count;
    if (parent.node->node_count > kYamlNodesMax) {
      return report(
          mark, "more than " + std::to_string(kYamlNodesMax) + " values once aliases are followed");
    }
    if (parent.node->kind == YamlNode::Kind::list) {
      parent.node->items.push_back(child);
    } else if (parent.key == nullptr) {
      parent.key = child;
    } else {
      parent.node->entries.push_back({std::exchange(parent.key, nullptr), child});
    }
  }

  YamlPlace begin_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNodePtr> anchors_;
  YamlNodePtr root_;
  std::optional<YamlProblem> problem_;
};

std::variant<YamlNodePtr, YamlProblem> parse_valid_text(std::string_view text) {
  std::istringstream stream{std::string(text)};
  TreeBuilder builder;
  try {
    YAML::Parser parser(stream);
    const bool found = parser.HandleNextDocument(builder);
    if (builder.problem()) return *builder.problem();
    TreeBuilder second;
    if (found && parser.HandleNextDocument(second)) {
      return YamlProblem{second.begin(),
                         "a second YAML document begins here (---); only one is read"};
    }
  } catch (const YAML::DeepRecursion& e) {
    return YamlProblem{place_of(e.mark),
                       "nested deeper than " + std::to_string(kYamlDepthMax) + " levels"};
  } catch (const YAML::Exception& e) {
    return YamlProblem{place_of(e.mark),
                       "not valid YAML: " + explain_yaml_error(text, place_of(e.mark), e.msg)};
  } catch (const std::exception& e) {
    return YamlProblem{{}, std::string("not valid YAML: ") + e.what()};
  }
  if (builder.root() == nullptr) return std::make_shared<const YamlNode>();
  return builder.root();
}

YamlPlace place_of_byte(std::string_view text, std::size_t offset) {
  YamlPlace place;
  for (std::size_t i = 0; i < offset; ++i) {
    place.column = text[i] == '\n' ? 1 : place.column + 1;
    if (text[i] == '\n') ++place.line;
  }
  return place;
}

}  // namespace

std::variant<YamlNodePtr, YamlProblem> parse_yaml(std::string_view text) {
  if (text.size() > kYamlBytesMax) {
    return YamlProblem{{},
                       "the file has " + std::to_string(text.size()) + " bytes; at most " +
                           std::to_string(kYamlBytesMax) + " (16 MiB) are read"};
  }
  if (const auto bad = find_bad_utf8(text)) {
    return YamlProblem{place_of_byte(text, *bad),
                       "not text: a byte that is neither UTF-8 nor a printable character"};
  }
  return parse_valid_text(text);
}

}  // namespace millrace::control
