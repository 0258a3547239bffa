// SPDX-License-Identifier: Apache-2.0
// The input is a JSON schema, a zero byte and a text. The schema is compiled and the text followed through its grammar
// as far as it goes, twice: at once, and with the matcher's tables dropped on the way. Where it stops, a byte may
// follow or the text is whole.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wf/decode/json_grammar.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  const auto grammar = wf::CompileJsonSchema(input.substr(0, zero));
  if (!grammar.ok()) {
    if (grammar.status().code() == wf::ErrorCode::kInternal || grammar.status().message().empty()) std::abort();
    return 0;
  }
  wf::JsonMatcher m(*grammar);
  wf::JsonMatcher::State state = m.state();
  wf::JsonMatcher walker = m;
  for (size_t i = zero + 1; i < input.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(input[i]);
    walker.ResetWork();
    state = walker.Next(state, byte);
    const bool taken = m.Advance(byte);
    if (m.overworked() || walker.overworked()) return 0;
    if (taken != (state != wf::JsonMatcher::kDead)) std::abort();
    if (!taken) break;
    if (m.CanEnd() != walker.can_end(state) || m.CanGoOn() != walker.can_go_on(state)) std::abort();
  }
  if (!m.CanEnd() && !m.CanGoOn()) std::abort();
  // Whatever may follow leads to an end: the grammar has no dead ends. The first byte that fits is taken each time,
  // quotes and brackets that close before others.
  for (int step = 0; step < 64 && !m.CanEnd(); ++step) {
    bool moved = false;
    for (const char c : std::string_view("\"]}")) moved = moved || m.Advance(static_cast<uint8_t>(c));
    for (uint32_t b = 0; b < 256 && !moved; ++b) moved = m.Advance(static_cast<uint8_t>(b));
    if (!moved && !m.overworked()) std::abort();
    if (!moved) return 0;
  }
  return 0;
}
