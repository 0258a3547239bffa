// SPDX-License-Identifier: Apache-2.0
// The body of the safetensors reader, compiled once for wf::model.
#include "wf/formats/safetensors-impl.h"
