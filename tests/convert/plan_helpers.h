// SPDX-License-Identifier: Apache-2.0
// Planning the conversion of a handmade checkpoint in a test.
#ifndef WF_TESTS_CONVERT_PLAN_HELPERS_H_
#define WF_TESTS_CONVERT_PLAN_HELPERS_H_

#include <string>
#include <utility>

#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "wf/convert/convert.h"

namespace wf::test {

inline ConvertOptions As(OutType type, Peer peer = Peer::kNone) {
  ConvertOptions o;
  o.outtype = type;
  o.peer = peer;
  return o;
}
inline Result<ConvertPlan> Plan(const Checkpoint& c, const ConvertOptions& o = {}) {
  const TempDir dir;
  return PlanConversion(c.Write(dir), o);
}
inline ConvertPlan MustPlan(const Checkpoint& c, const ConvertOptions& o = {}) {
  Result<ConvertPlan> r = Plan(c, o);
  INFO(r.status().message());
  REQUIRE(r.ok());
  return *std::move(r);
}
// The error's message with the scratch folder's name taken out.
inline std::string WhyNot(const Checkpoint& c, const ConvertOptions& o = {}) {
  const TempDir dir;
  const Result<ConvertPlan> r = PlanConversion(c.Write(dir), o);
  if (r.ok()) return "planned";
  std::string text = r.status().message();
  for (size_t at = 0; (at = text.find(dir.path() + "/")) != std::string::npos;) text.erase(at, dir.path().size() + 1);
  return text;
}
inline const PlannedTensor* Find(const ConvertPlan& p, const std::string& name) {
  for (const PlannedTensor& t : p.tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}
inline const PlannedTensor& Get(const ConvertPlan& p, const std::string& name) {
  const PlannedTensor* t = Find(p, name);
  INFO(name);
  REQUIRE(t != nullptr);
  return *t;
}
inline bool HasNotice(const ConvertPlan& p, const std::string& text) {
  for (const std::string& n : p.notices) {
    if (n.find(text) != std::string::npos) return true;
  }
  return false;
}

}  // namespace wf::test
#endif  // WF_TESTS_CONVERT_PLAN_HELPERS_H_
