// SPDX-License-Identifier: Apache-2.0
// Carrying out a conversion of a handmade checkpoint in a test.
#ifndef WF_TESTS_CONVERT_CONVERSION_H_
#define WF_TESTS_CONVERT_CONVERSION_H_

#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "tests/convert/checkpoint.h"
#include "tests/convert/plan_helpers.h"
#include "wf/convert/convert.h"
#include "wf/formats/gguf.h"

namespace wf::test {

// The tensor as a checkpoint's reader gives it; `t` must outlive it.
inline CheckpointTensor Source(const SourceTensor& t) {
  CheckpointTensor source;
  source.name = "w";
  source.type = t.dtype == "U8" ? ElementType::kU8 : (t.dtype == "F32" ? ElementType::kF32 : ElementType::kBF16);
  source.shape = t.shape;
  source.data = reinterpret_cast<const uint8_t*>(t.bytes.data());
  source.bytes = t.bytes.size();
  return source;
}

// A conversion to `out` in the checkpoint's own scratch folder.
struct Conversion {
  TempDir dir;
  Result<ConvertReport> report = InternalError("not run");
  std::string output;
  Conversion(const Checkpoint& c, OutType type, ConvertObserver* observer = nullptr)
      : Conversion(c, As(type), observer) {}
  Conversion(const Checkpoint& c, const ConvertOptions& options, ConvertObserver* observer = nullptr)
      : output(dir / "out.gguf") {
    const Result<ConvertPlan> plan = PlanConversion(c.Write(dir), options);
    report = plan.ok() ? ExecuteConversion(*plan, output, observer) : plan.status();
  }
  Gguf File() const {
    INFO(report.status().message());
    REQUIRE(report.ok());
    Result<Gguf> g = Gguf::Open(output);
    INFO(g.status().message());
    REQUIRE(g.ok());
    return *std::move(g);
  }
  // Only the checkpoint is there.
  bool Clean() const { return dir.Names() == std::vector<std::string>{"model"}; }
};

}  // namespace wf::test
#endif  // WF_TESTS_CONVERT_CONVERSION_H_
