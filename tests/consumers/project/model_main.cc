// SPDX-License-Identifier: Apache-2.0
// wf::model brings the kernels, the tokenizer and the engine: text survives the sample model's tokenizer, and a
// file that is no model is an error, not a crash.
#include <cstdio>

#include "gemv.h"
#include "wf/engine/engine.h"
#include "wf/model/model.h"
#include "wf/tokenizer/tokenizer.h"

Outcome Run();

int main(int argc, char** argv) {
  const Outcome o = Run();
  std::printf("hash %llx mask %x table %x\n", static_cast<unsigned long long>(o.hash), o.mask, o.compiled);
  if (!o.same || argc != 2) return 1;
  const auto tokenizer = wf::Tokenizer::FromHf(argv[1]);
  if (!tokenizer.ok()) {
    std::printf("%s\n", tokenizer.status().message().c_str());
    return 1;
  }
  const std::string_view text = "To be, or not to be: that is the question.\n";
  const auto ids = tokenizer->Encode(text, false, false);
  if (!ids.ok() || tokenizer->Decode(*ids, false) != text) return 1;
  return wf::Model::Open(argv[0]).ok() ? 1 : 0;
}
