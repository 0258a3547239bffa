// SPDX-License-Identifier: Apache-2.0
// The bodies of the checkpoint readers, compiled once for wf::model.
#include "wf/formats/checkpoint-impl.h"
#include "wf/formats/pickle-impl.h"
#include "wf/formats/safetensors-impl.h"
#include "wf/formats/sgl_bin-impl.h"
#include "wf/formats/torch_zip-impl.h"
#include "wf/formats/torch_zip_tensors-impl.h"
