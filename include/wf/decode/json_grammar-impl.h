// SPDX-License-Identifier: Apache-2.0
// Bodies of json_grammar.h: the matcher. The schema's side is json_schema-impl.h.
#ifndef WF_DECODE_JSON_GRAMMAR_IMPL_H_
#define WF_DECODE_JSON_GRAMMAR_IMPL_H_

#include <algorithm>
#include <utility>

#include "wf/decode/json_grammar.h"
#include "wf/decode/json_schema-impl.h"

namespace wf {

WF_MODEL_INLINE JsonMatcher::JsonMatcher(std::shared_ptr<const JsonGrammar> grammar)
    : grammar_(std::move(grammar)), classes_(grammar_->classes()) {
  Clear();
  Reach(grammar_->start(), 0, 0);
  state_ = Close();
}

WF_MODEL_INLINE void JsonMatcher::Clear() {
  frames_.assign(1, Frame{});
  frame_ids_.clear();
  states_.assign(1, StateInfo{});
  state_ids_ = {{std::vector<uint32_t>(), kDead}};
  next_.assign(classes_, kDead);
  seen_.assign(1, 0);
  round_ = 1;
}

WF_MODEL_INLINE uint32_t JsonMatcher::InternFrame(uint32_t node, uint32_t parent, uint32_t depth) {
  const auto [at, added] = frame_ids_.try_emplace(uint64_t{node} << 32 | parent, static_cast<uint32_t>(frames_.size()));
  if (added) {
    frames_.push_back({node, parent, depth});
    seen_.push_back(0);
  }
  return at->second;
}

// Puts a frame among those that Close() looks at, if the levels left suffice from there.
WF_MODEL_INLINE void JsonMatcher::Reach(uint32_t node, uint32_t parent, uint32_t depth) {
  if (++work_ > JsonLimits::kWork) return;  // the state will not be used
  if (depth + grammar_->node(node).need > JsonLimits::kDepth) return;
  const uint32_t frame = InternFrame(node, parent, depth);
  if (seen_[frame] == round_) return;
  seen_[frame] = round_;
  pending_.push_back(frame);
}

// The state of all frames that are reached without a byte. Every call takes a byte before it can come to itself, so
// this ends.
WF_MODEL_INLINE JsonMatcher::State JsonMatcher::Close() {
  StateInfo info;
  bool can_end = false;
  uint32_t texts = 0, characters = 0;
  const uint32_t character = grammar_->rule(grammar_->character()).start;
  while (!pending_.empty()) {
    const uint32_t id = pending_.back();
    pending_.pop_back();
    const Frame f = frames_[id];
    const JsonGrammar::Node& node = grammar_->node(f.node);
    if (node.accept) {
      if (f.parent == 0) {
        can_end = true;
      } else {
        const Frame caller = frames_[f.parent];
        Reach(caller.node, caller.parent, caller.depth);
      }
    }
    bool keep = node.room > 0;
    for (const JsonGrammar::Edge* e = grammar_->begin(f.node); e != grammar_->end(f.node); ++e) {
      if (e->kind == JsonGrammar::EdgeKind::kBytes) {
        keep = true;
      } else if (e->kind == JsonGrammar::EdgeKind::kEmpty) {
        Reach(e->to, f.parent, f.depth);
      } else if (f.depth + grammar_->node(e->to).need <= JsonLimits::kDepth) {
        const JsonGrammar::Rule& rule = grammar_->rule(e->rule);
        const uint32_t depth = f.depth + (rule.nests ? 1 : 0);
        if (depth + grammar_->node(rule.start).need > JsonLimits::kDepth) continue;
        // A call that is the last thing its rule does returns where the rule does: chains of references, which may have
        // very many ways through, leave no trace. Arrays and objects end with a byte, so depths stay right.
        const bool last = grammar_->node(e->to).accept && grammar_->begin(e->to) == grammar_->end(e->to);
        Reach(rule.start, last ? f.parent : InternFrame(e->to, f.parent, f.depth), depth);
      }
    }
    if (!keep) continue;
    info.frames.push_back(id);
    if (node.room > 0) {
      info.room = std::max(info.room, node.room);
      ++texts;
    }
    if (f.node == character) ++characters;
  }
  info.room_only = texts == 1 && characters == 1 && info.frames.size() == 2;
  std::sort(info.frames.begin(), info.frames.end());
  if (can_end) info.frames.insert(info.frames.begin(), 0);
  ++round_;
  const auto [at, added] = state_ids_.try_emplace(info.frames, static_cast<State>(states_.size()));
  if (added) {
    states_.push_back(std::move(info));
    next_.resize(next_.size() + classes_, kUnknown);
    work_ += classes_;
  }
  return at->second;
}

WF_MODEL_INLINE JsonMatcher::State JsonMatcher::Follow(State s, uint8_t byte) {
  if (overworked()) return kDead;
  for (const uint32_t id : states_[s].frames) {
    if (id == 0) continue;
    const Frame f = frames_[id];
    for (const JsonGrammar::Edge* e = grammar_->begin(f.node); e != grammar_->end(f.node); ++e) {
      ++work_;
      if (e->kind == JsonGrammar::EdgeKind::kBytes && e->lo <= byte && byte <= e->hi) Reach(e->to, f.parent, f.depth);
    }
  }
  const State next = Close();
  if (overworked()) return kDead;
  next_[static_cast<size_t>(s) * classes_ + grammar_->class_of(byte)] = next;
  return next;
}

WF_MODEL_INLINE bool JsonMatcher::Advance(uint8_t byte) {
  ResetWork();
  Trim();
  const State next = Next(state_, byte);
  if (next == kDead) return false;
  state_ = next;
  return true;
}

WF_MODEL_INLINE bool JsonMatcher::Trim() {
  if (next_.size() < size_t{1} << 19 && frames_.size() < size_t{1} << 16) return false;
  const std::vector<Frame> old = std::move(frames_);
  const std::vector<uint32_t> ids = states_[state_].frames;
  Clear();
  std::vector<uint32_t> kept, chain;
  for (const uint32_t id : ids) {
    chain.clear();
    for (uint32_t f = id; f != 0; f = old[f].parent) chain.push_back(f);
    uint32_t parent = 0;
    for (; !chain.empty(); chain.pop_back()) {
      parent = InternFrame(old[chain.back()].node, parent, old[chain.back()].depth);
    }
    if (parent != 0) kept.push_back(parent);
  }
  const bool can_end = !ids.empty() && ids.front() == 0;
  for (const uint32_t f : kept) {
    seen_[f] = round_;
    pending_.push_back(f);
  }
  state_ = Close();
  if (can_end && !this->can_end(state_)) {  // the frame that said so is not kept
    StateInfo info = states_[state_];
    info.frames.insert(info.frames.begin(), 0);
    state_ids_.emplace(info.frames, static_cast<State>(states_.size()));
    state_ = static_cast<State>(states_.size());
    states_.push_back(std::move(info));
    next_.resize(next_.size() + classes_, kUnknown);
  }
  return true;
}

}  // namespace wf
#endif  // WF_DECODE_JSON_GRAMMAR_IMPL_H_
