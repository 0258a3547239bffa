// SPDX-License-Identifier: Apache-2.0
// The load-time self-test: passes on every ISA of this CPU, and finds a kernel that is wrong in the last bit of one
// value. Ternary products cannot be planted from outside (their instances are constants); a wrong K/V type, norm,
// head, rotation, gate, sum, softmax, quantisation and attention can.
#include "wf/model/selftest.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>

#include "tests/catch.h"
#include "tests/model/model_file.h"
#include "wf/kernels/table.h"

namespace {

using wf::KernelTable;
using wf::isa::Id;

constexpr Id kAll[] = {Id::kScalar, Id::kAvx2, Id::kAvxVnni, Id::kAvx512, Id::kAvx512Vnni256, Id::kAvx512Vnni};

bool Available(Id id) { return ((wf::CompiledIsas() >> static_cast<int>(id)) & 1u) != 0 && wf::isa::Supported(id); }

// The kernel that a planted one calls before it spoils the result.
const KernelTable* g_right = nullptr;

void Spoil(float* v) { *v = std::bit_cast<float>(std::bit_cast<uint32_t>(*v) ^ 1u); }

// Replaces kernels of one ISA's table, which is memory of the library and not a constant, and puts them back.
class Planted {
 public:
  explicit Planted(Id id) : table_(const_cast<KernelTable&>(wf::Kernels(id))), saved_(table_) { g_right = &saved_; }
  ~Planted() { table_ = saved_; }
  Planted(const Planted&) = delete;
  Planted& operator=(const Planted&) = delete;
  KernelTable& operator*() { return table_; }

 private:
  KernelTable& table_;
  KernelTable saved_;
};

}  // namespace

TEST_CASE("every ISA of this CPU passes on the sample model, with every type of cache") {
  const auto model = wf::test::Bard();
  for (const Id id : kAll) {
    if (!Available(id)) {
      WARN("not tested, this CPU or build lacks it: " << wf::isa::Name(id));
      continue;
    }
    for (const wf::KvType kv : {wf::KvType::kF16, wf::KvType::kF32, wf::KvType::kI8}) {
      const auto r = wf::RunSelfTest(*model, id, kv);
      INFO(wf::isa::Name(id) << ": " << r.status().message());
      REQUIRE(r.ok());
      // Four shapes of projections, the head, five kernels of rows for each of two widths, rotation, cache, attention
      // at once, by chunks and their merging.
      CHECK(r->kernels >= 4 + 1 + 10 + 1 + 4);
      CHECK(r->comparisons > 5 * 66);
    }
  }
}

TEST_CASE("it takes less than the 100 ms of its budget") {
  const auto model = wf::test::Bard();
  const Id id = wf::isa::BestSupported(wf::CompiledIsas());
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto r = wf::RunSelfTest(*model, id, wf::KvType::kF16);
    REQUIRE(r.ok());
    best = std::min(best, r->ms);
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  WARN("instrumented: " << best << " ms are not held against the budget");
#else
  CHECK(best < 100);
#endif
}

TEST_CASE("a kernel that is wrong in one bit of one value is found, by name") {
  const Id id = wf::isa::BestSupported(wf::CompiledIsas());
  if (id == Id::kScalar) {
    WARN("not tested: this CPU has no ISA beside the scalar definition");
    return;
  }
  const auto model = wf::test::Bard();
  Planted planted(id);
  KernelTable& t = *planted;
  std::string name;
  SECTION("norm") {
    name = "rms_norm";
    t.rms_norm = [](const wf::RmsNormArgs& a) noexcept {
      g_right->rms_norm(a);
      Spoil(a.y + a.n - 1);
    };
  }
  SECTION("gate") {
    name = "glu";
    t.glu = [](const wf::GluArgs& a) noexcept {
      g_right->glu(a);
      for (size_t i = 0; i < a.n; ++i) {
        if (a.out[i] > 0) return Spoil(a.out + i);
      }
    };
  }
  SECTION("sum") {
    name = "add";
    t.add = [](const wf::AddArgs& a) noexcept {
      g_right->add(a);
      Spoil(a.y);
    };
  }
  SECTION("softmax") {
    name = "softmax";
    t.softmax = [](const wf::SoftmaxArgs& a) noexcept {
      g_right->softmax(a);
      if (a.p != nullptr) Spoil(a.p + a.n / 2);
    };
  }
  SECTION("rotation") {
    name = "rope";
    t.rope = [](const wf::RopeArgs& a) noexcept {
      g_right->rope(a);
      Spoil(a.x + a.heads * a.head_dim - 1);
    };
  }
  SECTION("quantised values") {
    name = "quantise";
    t.quantise = [](const wf::QuantiseArgs& a) noexcept {
      g_right->quantise(a);
      a.out[3] = static_cast<int8_t>(a.out[3] ^ 1);
    };
  }
  SECTION("scale of the activations") {
    name = "quantise scale";
    t.quantise = [](const wf::QuantiseArgs& a) noexcept {
      g_right->quantise(a);
      Spoil(a.act_scale);
    };
  }
  SECTION("sum of the activations") {
    name = "quantise sum";
    t.quantise = [](const wf::QuantiseArgs& a) noexcept {
      g_right->quantise(a);
      ++*a.sum;
    };
  }
  SECTION("cache") {
    name = "kv_store";
    t.kv_store[1] = [](const wf::KvStoreArgs& a) noexcept {
      g_right->kv_store[1](a);
      static_cast<uint16_t*>(a.head)[a.slot] ^= 1u;
    };
  }
  SECTION("attention") {
    name = "attention";
    t.attention[1] = [](const wf::AttentionArgs& a) noexcept {
      g_right->attention[1](a);
      Spoil(a.out + (a.rows - 1) * a.out_stride + a.heads * a.head_dim - 1);
    };
  }
  SECTION("attention of a chunk") {
    name = "attention of chunks";
    t.attention_part[1] = [](const wf::AttentionArgs& a) noexcept {
      g_right->attention_part[1](a);
      // Its last place could vanish in merging.
      if (a.chunk == 1) a.part[(a.rows - 1) * a.heads * wf::KvVStride(a.head_dim)] += 1;
    };
  }
  SECTION("merging of chunks") {
    name = "attention of chunks";
    t.attention_merge = [](const wf::AttentionArgs& a) noexcept {
      g_right->attention_merge(a);
      Spoil(a.out);
    };
  }
  SECTION("the last row of the head") {
    name = "dense";
    t.dense[1] = [](const wf::DenseArgs& a) noexcept {
      g_right->dense[1](a);
      if (a.row_end == 2048) Spoil(a.y + 2047);
    };
  }
  const auto r = wf::RunSelfTest(*model, id, wf::KvType::kF16);
  REQUIRE_FALSE(r.ok());
  CHECK(r.status().code() == wf::ErrorCode::kInternal);
  INFO(r.status().message());
  CHECK_THAT(r.status().message(), Catch::Matchers::Contains("kernel " + name));
  CHECK_THAT(r.status().message(), Catch::Matchers::Contains(std::string("ISA ") + wf::isa::Name(id)));
}
