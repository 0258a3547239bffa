// SPDX-License-Identifier: Apache-2.0
// Catch2 v2 (Debian 12) or v3.
#ifndef WF_TESTS_CATCH_H_
#define WF_TESTS_CATCH_H_
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
#endif
