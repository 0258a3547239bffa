// SPDX-License-Identifier: Apache-2.0
// What a plan's GGUF says about itself: keys (formats.md 1.2) and the table of tensors. Part of convert.h's bodies.
#ifndef WF_CONVERT_METADATA_IMPL_H_
#define WF_CONVERT_METADATA_IMPL_H_

#include "wf/convert/convert.h"
#include "wf/formats/gguf_writer.h"

namespace wf::detail {

// general.file_type by OutType; 40 is Microsoft's I2_S. Informational: no reader may trust it.
inline constexpr uint32_t kFileTypes[] = {0, 1, 32, 40};

inline void DescribeSampling(const HfSampling& s, GgufWriter* w) {
  if (s.top_k) w->SetI32("general.sampling.top_k", *s.top_k);
  if (s.top_p) w->SetF32("general.sampling.top_p", *s.top_p);
  if (s.min_p) w->SetF32("general.sampling.min_p", *s.min_p);
  if (s.temperature) w->SetF32("general.sampling.temp", *s.temperature);
  if (s.repetition_penalty) w->SetF32("general.sampling.penalty_repeat", *s.repetition_penalty);
}

// The sizes were checked against 2^24 when they were read.
inline void DescribeModel(const ConvertPlan& plan, GgufWriter* w) {
  const HfConfig& c = plan.config;
  const auto key = [&](const char* name) { return c.architecture + "." + name; };
  const auto size = [&](const char* name, uint64_t v) { w->SetU32(key(name), static_cast<uint32_t>(v)); };
  size("vocab_size", c.vocab);
  size("context_length", c.context);
  size("embedding_length", c.embedding);
  size("block_count", c.layers);
  size("feed_forward_length", c.ffn);
  size("rope.dimension_count", c.head_dim);
  size("attention.head_count", c.heads);
  size("attention.head_count_kv", c.kv_heads);
  if (c.head_dim * c.heads != c.embedding) {
    size("attention.key_length", c.head_dim);
    size("attention.value_length", c.head_dim);
  }
  w->SetF32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(c.rms_eps));
  if (plan.sub_norm_eps >= 0) w->SetF32(key("attention.sub_norm_epsilon"), plan.sub_norm_eps);
  w->SetF32(key("rope.freq_base"), static_cast<float>(c.rope_theta));
  if (c.rope_factor != 1) {
    w->SetString(key("rope.scaling.type"), "linear");
    w->SetF32(key("rope.scaling.factor"), static_cast<float>(c.rope_factor));
  }
  // Projections run with quantised activations whatever type their weights have.
  w->SetBool(key("bitlinear"), true);
  if (!c.diffusion.style.empty()) {
    w->SetString(key("diffusion.style"), c.diffusion.style);
    if (c.diffusion.block_size != 0) size("diffusion.block_size", c.diffusion.block_size);
  }
}

inline void DescribeFile(const ConvertPlan& plan, GgufWriter* w) {
  w->SetString("general.architecture", plan.config.architecture);
  w->SetString("general.type", "model");
  w->SetString("general.name", plan.name);
  w->SetU32("general.file_type", kFileTypes[static_cast<size_t>(plan.outtype)]);
  w->SetU32("general.quantization_version", 2);
  DescribeModel(plan, w);
  DescribeSampling(plan.config.sampling, w);
  WriteVocab(plan.vocab, w);
  for (const PlannedTensor& t : plan.tensors) w->AddTensor(t.name, t.type, t.ne);
}

}  // namespace wf::detail
#endif  // WF_CONVERT_METADATA_IMPL_H_
