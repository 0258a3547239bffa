// SPDX-License-Identifier: Apache-2.0
// The -m of the programs: a GGUF, a checkpoint's folder, which is converted in memory at each start, or a checkpoint
// elsewhere, which is downloaded and converted once into the cache.
#ifndef WF_TOOLS_MODEL_ARG_H_
#define WF_TOOLS_MODEL_ARG_H_

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>

#include "tools/fetch.h"
#include "tools/model_cache.h"
#include "tools/tensor_types.h"
#include "wf/convert/open_model.h"

namespace wf {

// The model at `path` with progress on the terminal; notices are left to the caller.
inline Result<std::shared_ptr<const Model>> OpenModelArg(const std::string& path, const OpenModelOptions& options,
                                                         const std::atomic<bool>* interrupted) {
  ConvertWatch watch(interrupted);
  if (!IsRemote(path)) return OpenModel(path, options, &watch);
  FetchOptions fetch;
  fetch.interrupted = interrupted;
  WF_ASSIGN(const std::string folder, FetchCheckpoint(path, fetch));
  const auto make = [&](const std::string& output) -> Status {
    WF_ASSIGN(const ConvertPlan plan, PlanConversion(folder, options.convert));
    for (const std::string& n : plan.notices) std::fprintf(stderr, "note: %s\n", n.c_str());
    return ExecuteConversion(plan, output, &watch).status();
  };
  WF_ASSIGN(const std::string file, CachedConversion(folder, "auto", make, interrupted));
  return Model::Open(file, options.weights);
}

struct ModelArg {
  std::string path, i2s_layout = "x86";

  void AddTo(CLI::App* app) {
    app->add_option("-m,--model", path,
                    "GGUF file, the folder of a checkpoint (converted in memory), or hf://org/name, gs://bucket/path "
                    "(downloaded and converted into the cache)")
        ->required();
    app->add_option("--i2s-layout", i2s_layout,
                    "Layout of I2_S tensors, which a file does not say: x86 (all published files), arm64 or x4")
        ->check(CLI::IsMember({"x86", "arm64", "x4"}))
        ->capture_default_str();
  }
  // Prints the model's notices on stderr.
  Result<std::shared_ptr<const Model>> Open(const char* program, const std::atomic<bool>* interrupted) const {
    OpenModelOptions options;
    WF_ASSIGN(options.weights.i2s_layout, ParseI2sLayout(i2s_layout));
    WF_ASSIGN(std::shared_ptr<const Model> model, OpenModelArg(path, options, interrupted));
    for (const std::string& n : model->notices()) std::fprintf(stderr, "%s: note: %s\n", program, n.c_str());
    return model;
  }
};

}  // namespace wf
#endif  // WF_TOOLS_MODEL_ARG_H_
