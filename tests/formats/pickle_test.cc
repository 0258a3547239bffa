// SPDX-License-Identifier: Apache-2.0
// The pickle machine against the rules of formats.md 7.2: what PyTorch writes is read, what an attacker writes is
// refused with its opcode and place, and nothing is ever run.
#include "wf/formats/pickle.h"

#include "tests/catch.h"
#include "tests/formats/torch_bytes.h"
#include "wf/formats/checkpoint.h"

namespace wf {
namespace {

using test::Bytes;
using test::Message;
using test::PickleBytes;
using Kind = PickleValue::Kind;

std::string Bin(std::string_view hex) { return test::FromHex(hex); }

// The file that holds this pickle is refused, with this message after the file's name and the entry's.
void Refuses(const std::string& pickle, ErrorCode code, const std::string& message) {
  const Result<Checkpoint> c = Checkpoint::ParseTorch(test::TorchFile(pickle, {std::string(16, '\0')}), "evil.pt");
  INFO("expected: " << message);
  REQUIRE_FALSE(c.ok());
  CHECK(ErrorName(c.status().code()) == std::string(ErrorName(code)));
  CHECK(c.status().message() == "evil.pt: archive/data.pkl: " + message);
}
void RefusesGlobal(const std::string& pickle, const std::string& opcode, int offset, const std::string& global) {
  Refuses(pickle, ErrorCode::kUnsupported,
          "pickle: opcode " + opcode + " at offset " + std::to_string(offset) + ": the global '" + global +
              "' is not allowed: a state dict needs none but tensors");
}
void RefusesOpcode(const std::string& pickle, const std::string& opcode, int offset) {
  Refuses(
      pickle, ErrorCode::kUnsupported,
      "pickle: opcode " + opcode + " at offset " + std::to_string(offset) + ": not allowed: a state dict needs none");
}
void RefusesFormat(const std::string& pickle, const std::string& opcode, int offset, const std::string& what,
                   ErrorCode code = ErrorCode::kFormat) {
  Refuses(pickle, code, "pickle: opcode " + opcode + " at offset " + std::to_string(offset) + ": " + what);
}

// The value of a pickle with these opcodes between PROTO 4 and STOP.
struct Parsed {
  std::string bytes;
  Result<PickleDocument> doc;
  explicit Parsed(const std::string& ops) : bytes(Bin("8004") + ops + "."), doc(PickleDocument::Parse(bytes)) {
    INFO(doc.status().message());
    REQUIRE(doc.ok());
  }
  PickleValue root() const { return doc->root(); }
};

TEST_CASE("pickle: the example of formats.md 7.2 is a dict of a call") {
  const std::string bytes = test::ExamplePickle();
  REQUIRE(bytes.size() == 166);
  const Result<PickleDocument> doc = PickleDocument::Parse(bytes);
  REQUIRE(doc.ok());
  const auto dict = doc->Items(doc->root());
  REQUIRE(doc->root().is(Kind::kDict));
  REQUIRE(dict.size() == 2);
  CHECK(doc->String(dict[0]) == "w");
  REQUIRE(dict[1].is(Kind::kCall));
  const auto call = doc->Items(dict[1]);
  CHECK(call[0].AsGlobal() == PickleGlobal::kRebuildTensorV2);
  const auto args = doc->Items(call[1]);
  REQUIRE(args.size() == 6);
  REQUIRE(args[0].is(Kind::kPersistent));
  const auto id = doc->Items(doc->Items(args[0])[0]);
  REQUIRE(id.size() == 5);
  CHECK(doc->String(id[0]) == "storage");
  CHECK(id[1].AsGlobal() == PickleGlobal::kFloatStorage);
  CHECK(doc->String(id[2]) == "0");
  CHECK(id[4].AsInt() == 4);
  CHECK(args[1].AsInt() == 0);
  CHECK(doc->Items(args[3])[0].AsInt() == 2);
  CHECK(args[4].is(Kind::kBool));
  CHECK_FALSE(args[4].AsBool());
  CHECK(args[5].is(Kind::kDict));
}

TEST_CASE("pickle: every truncation is refused") {
  const std::string bytes = test::ExamplePickle();
  for (size_t n = 0; n < bytes.size(); ++n) {
    INFO("cut at byte " << n);
    REQUIRE_FALSE(PickleDocument::Parse(bytes.substr(0, n)).ok());
  }
}

TEST_CASE("pickle: numbers") {
  const auto value = [](const std::string& ops) { return Parsed(ops).root(); };
  CHECK(value("K\xff").AsInt() == 255);
  CHECK(value("M" + Bin("0102")).AsInt() == 513);
  CHECK(value("J" + Bin("feffffff")).AsInt() == -2);
  CHECK(value(Bin("8a00")).AsInt() == 0);
  CHECK(value(Bin("8a01ff")).AsInt() == -1);
  CHECK(value(Bin("8a02ff00")).AsInt() == 255);
  CHECK(value(Bin("8a080000000000000080")).AsInt() == INT64_MIN);
  CHECK(value("G" + Bin("3ff8000000000000")).AsFloat() == 1.5);
  CHECK(value(Bin("88")).AsBool());
  CHECK(value("N").is(Kind::kNone));
}

TEST_CASE("pickle: strings in all their forms") {
  for (const std::string& ops : {"X" + Bin("02000000") + "ab", Bin("8c02") + "ab", Bin("8d0200000000000000") + "ab",
                                 std::string("U\x02"
                                             "ab"),
                                 "T" + Bin("02000000") + "ab",
                                 std::string("C\x02"
                                             "ab")}) {
    const Parsed p(ops);
    CHECK(p.doc->String(p.root()) == "ab");
  }
}

TEST_CASE("pickle: containers, marks and the memo") {
  const Parsed list("]q\x05(K\1K\2e0h\x05K\3a");
  REQUIRE(list.root().is(Kind::kList));
  REQUIRE(list.doc->Items(list.root()).size() == 3);
  CHECK(list.doc->Items(list.root())[2].AsInt() == 3);
  const Parsed dict("}(K\1K\2K\3K\4uK\5K\6s");
  CHECK(dict.doc->Items(dict.root()).size() == 6);
  const Parsed tuple(")K\1" + Bin("85") + Bin("86") + "K\2K\3" + Bin("87") + "(K\1(1(K\2(001t" + Bin("86"));
  REQUIRE(tuple.root().is(Kind::kTuple));
  CHECK(tuple.doc->Items(tuple.doc->Items(tuple.root())[0]).size() == 3);
  CHECK(tuple.doc->Items(tuple.doc->Items(tuple.root())[1]).size() == 1);
  const Parsed memo("K\7" + Bin("94") + "K\x08" + Bin("94") + "j" + Bin("00000000") + Bin("87") + "r" +
                    Bin("09000000") + "0j" + Bin("09000000") + Bin("95") + Bin("0100000000000000"));
  CHECK(memo.doc->Items(memo.root())[2].AsInt() == 7);
}

TEST_CASE("pickle: OrderedDict, torch.Size and attributes") {
  const std::string ordered = "ccollections\nOrderedDict\n";
  for (const std::string& ops :
       {ordered + ")R", ordered + ")" + Bin("81"), ordered + "](K\1K\2" + Bin("86") + "e" + Bin("85") + "R"}) {
    const Parsed p(ops + "K\5Ns}X" + Bin("09000000") + "_metadataNsb");
    CHECK(p.root().is(Kind::kDict));
    CHECK(p.doc->Items(p.root()).size() >= 2);
  }
  const Parsed size("ctorch\nSize\nK\2K\3" + Bin("86") + Bin("85") + "R");
  REQUIRE(size.root().is(Kind::kTuple));
  CHECK(size.doc->Items(size.root())[1].AsInt() == 3);
  const Parsed stacked(Bin("8c05") + "torch" + Bin("8c04") + "Size" + Bin("93"));
  CHECK(stacked.root().AsGlobal() == PickleGlobal::kSize);
}

TEST_CASE("pickle: a dict may hold itself") {
  const Parsed p("}q\1X" + Bin("01000000") + "ah\1s");
  CHECK(p.doc->Items(p.root())[1].bits == p.root().bits);
}

TEST_CASE("pickle refuses: code to run, whichever way it is named") {
  RefusesGlobal(PickleBytes().Global("os", "system").Op("(").Str("echo pwned").Op("tR.").s, "GLOBAL (0x63)", 2,
                "os.system");
  RefusesGlobal(PickleBytes().Global("posix", "system").Op("(").Str("id").Op("tR.").s, "GLOBAL (0x63)", 2,
                "posix.system");
  RefusesGlobal(PickleBytes().Global("builtins", "__import__").Op("(").Str("os").Op("tR.").s, "GLOBAL (0x63)", 2,
                "builtins.__import__");
  RefusesGlobal(PickleBytes().Str("builtins").Str("eval").Op("\x93(").Str("1").Op("tR.").s, "STACK_GLOBAL (0x93)", 24,
                "builtins.eval");
  RefusesGlobal(PickleBytes().Op("}").Str("w").Global("torch.storage", "_load_from_bytes").Op("(C\x01.tRs.").s,
                "GLOBAL (0x63)", 9, "torch.storage._load_from_bytes");
  RefusesGlobal(PickleBytes().Global("numpy.core.multiarray", "scalar").Op(".").s, "GLOBAL (0x63)", 2,
                "numpy.core.multiarray.scalar");
  RefusesGlobal(PickleBytes().Global("torch", "float32.__reduce__").Op(".").s, "GLOBAL (0x63)", 2,
                "torch.float32.__reduce__");
  RefusesGlobal(PickleBytes().Global("torch._utils\\", "_rebuild_tensor_v2").Op(".").s, "GLOBAL (0x63)", 2,
                "torch._utils\\x5c._rebuild_tensor_v2");
  RefusesGlobal(PickleBytes().Global("", "").Op(".").s, "GLOBAL (0x63)", 2, ".");
}

TEST_CASE("pickle refuses: calls of what is no function of the list") {
  RefusesFormat(PickleBytes().Global("torch", "FloatStorage").Op(")R.").s, "REDUCE (0x52)", 23,
                "a call of FloatStorage is not allowed", ErrorCode::kUnsupported);
  RefusesFormat(PickleBytes().Str("os.system").Op(")R.").s, "REDUCE (0x52)", 17, "expected a function, found a string");
  RefusesFormat(PickleBytes().Global("collections", "OrderedDict").Op("]R.").s, "REDUCE (0x52)", 28,
                "expected a tuple, found a list");
  RefusesFormat(PickleBytes().Global("collections", "OrderedDict").Op("NN\x86R.").s, "REDUCE (0x52)", 30,
                "OrderedDict: expected no arguments or a list of pairs");
  RefusesFormat(PickleBytes().Global("collections", "OrderedDict").Op("]Na\x85R.").s, "REDUCE (0x52)", 31,
                "OrderedDict: expected pairs");
  RefusesFormat(PickleBytes().Global("torch", "Size").Op("N\x85R.").s, "REDUCE (0x52)", 16,
                "torch.Size: expected a tuple");
  RefusesFormat(PickleBytes().Global("torch", "Size").Op(")\x81.").s, "NEWOBJ (0x81)", 15,
                "expected OrderedDict, found Size", ErrorCode::kUnsupported);
  RefusesFormat(PickleBytes().Op("]}b.").s, "BUILD (0x62)", 4, "expected an object, found a list");
}

TEST_CASE("pickle refuses: the opcodes that a state dict has no use for") {
  RefusesOpcode(PickleBytes().Op("(").Str("id").Op("ios\nsystem\n.").s, "INST (0x69)", 10);
  RefusesOpcode(PickleBytes().Op("(").Str("x").Op("o.").s, "OBJ (0x6f)", 9);
  RefusesOpcode(PickleBytes().Op("\x82\x01.").s, "EXT1 (0x82)", 2);
  RefusesOpcode(PickleBytes().Op(Bin("83")).Op("\x01.").s, "EXT2 (0x83)", 2);
  RefusesOpcode(PickleBytes().Op(Bin("84")).Op(".").s, "EXT4 (0x84)", 2);
  RefusesOpcode(PickleBytes().Op("P0\n.").s, "PERSID (0x50)", 2);
  RefusesOpcode(PickleBytes().Op(Bin("92")).Op(".").s, "NEWOBJ_EX (0x92)", 2);
  RefusesOpcode(PickleBytes().Op(Bin("8b")).Op(".").s, "LONG4 (0x8b)", 2);
  RefusesOpcode(PickleBytes().Op(Bin("97")).Op(".").s, "NEXT_BUFFER (0x97)", 2);
  RefusesOpcode(PickleBytes().Op("I1\n.").s, "INT (0x49)", 2);
  RefusesOpcode(PickleBytes().Op("\x03.").s, "0x03", 2);
  RefusesOpcode(PickleBytes().Op(Bin("ff")).s, "0xff", 2);
}

TEST_CASE("pickle refuses: bombs") {
  Refuses(PickleBytes().Op(std::string(1'000'001, '(')).s, ErrorCode::kLimit,
          "pickle: opcode MARK (0x28) at offset 1000002: more than 1000000 values on the stack");
  Refuses(PickleBytes().Op(std::string(1'000'001, 'N')).s, ErrorCode::kLimit,
          "pickle: opcode NONE (0x4e) at offset 1000002: more than 1000000 values on the stack");
  // A million levels cost no recursion: the dict of tensors is what is missing.
  Refuses(PickleBytes().Op(")" + std::string(1'000'000, '\x85') + ".").s, ErrorCode::kFormat,
          "expected a dict of tensors, found a tuple");
  Refuses(PickleBytes().Op(std::string(5'000'000, '}')).s, ErrorCode::kLimit,
          "pickle: opcode EMPTY_DICT (0x7d) at offset 1000002: more than 1000000 values on the stack");
  std::string pops;
  for (int i = 0; i < 4'194'305; ++i) pops += "}0";
  Refuses(PickleBytes().Op(pops).s, ErrorCode::kLimit,
          "pickle: opcode EMPTY_DICT (0x7d) at offset 8388610: more than 4194304 containers");
  std::string lists;  // the 17th is one too many
  for (int i = 0; i < 20; ++i) lists += "](" + std::string(999'000, 'N') + "e0";
  Refuses(PickleBytes().Op(lists).s, ErrorCode::kLimit,
          "pickle: opcode APPENDS (0x65) at offset 16983068: more than 16777216 items");
}

TEST_CASE("pickle refuses: memo indexes that nobody counts up to, and empty entries") {
  RefusesFormat(PickleBytes().Op("Nr" + Bin("ffffffff") + ".").s, "LONG_BINPUT (0x72)", 3,
                "expected a memo index below 9, found 4294967295", ErrorCode::kLimit);
  RefusesFormat(PickleBytes().Op("h\x07.").s, "BINGET (0x68)", 2, "memo entry 7 is empty");
  RefusesFormat(PickleBytes().Op("Nq\x03h\x02.").s, "BINGET (0x68)", 5, "memo entry 2 is empty");
  RefusesFormat(PickleBytes().Op("j" + Bin("ffffffff") + ".").s, "LONG_BINGET (0x6a)", 2,
                "memo entry 4294967295 is empty");
  RefusesFormat(PickleBytes().Op("q" + Bin("00") + ".").s, "BINPUT (0x71)", 2,
                "expected 1 value on the stack, found 0");
}

TEST_CASE("pickle refuses: sizes that no state dict has") {
  RefusesFormat(PickleBytes().Op(Bin("8aff")).Op(std::string(255, '\x7f')).s, "LONG1 (0x8a)", 2,
                "expected an integer of at most 8 bytes, found 255", ErrorCode::kLimit);
  RefusesFormat(PickleBytes().Op("X" + Bin("ffffffff")).s, "BINUNICODE (0x58)", 2,
                "expected a string of at most 1048576 bytes, found 4294967295", ErrorCode::kLimit);
  RefusesFormat(PickleBytes().Op(Bin("8dffffffffffffffff")).s, "BINUNICODE8 (0x8d)", 2,
                "expected a string of at most 1048576 bytes, found 18446744073709551615", ErrorCode::kLimit);
  RefusesFormat(PickleBytes().Op("X" + Bin("10000000") + "abc").s, "BINUNICODE (0x58)", 2,
                "truncated at offset 7: a string needs 16 bytes, 3 left");
  RefusesFormat(PickleBytes().Op("c" + std::string(1000, 'a') + "\nb\n.").s, "GLOBAL (0x63)", 2,
                "expected a name that ends with a line break");
  RefusesFormat(PickleBytes().Op("cos").s, "GLOBAL (0x63)", 2, "expected a name that ends with a line break");
  RefusesFormat(PickleBytes().Op(Bin("95ffffffffffffffff") + "N.").s, "FRAME (0x95)", 2,
                "a frame of 18446744073709551615 bytes, 2 are left");
}

TEST_CASE("pickle refuses: a stack that does not hold what an opcode takes") {
  RefusesFormat(PickleBytes().Op("0.").s, "POP (0x30)", 2, "expected 1 value on the stack, found 0");
  RefusesFormat(PickleBytes().Op("1.").s, "POP_MARK (0x31)", 2, "expected a MARK, found none");
  RefusesFormat(PickleBytes().Op("t.").s, "TUPLE (0x74)", 2, "expected a MARK, found none");
  RefusesFormat(PickleBytes().Op("(u.").s, "SETITEMS (0x75)", 3, "expected 1 value on the stack, found 0");
  RefusesFormat(PickleBytes().Op("](K\1Q0Q.").s, "BINPERSID (0x51)", 8, "expected 1 value on the stack, found 0");
  RefusesFormat(PickleBytes().Op("}(Nu.").s, "SETITEMS (0x75)", 5, "expected pairs, found an odd number of values");
  RefusesFormat(PickleBytes().Op("]NNs.").s, "SETITEM (0x73)", 5, "expected a dict, found a list");
  RefusesFormat(PickleBytes().Op("}Na.").s, "APPEND (0x61)", 4, "expected a list, found a dict");
  RefusesFormat(PickleBytes().Op("}]Ns.").s, "SETITEM (0x73)", 5, "expected a key, found a list");
  RefusesFormat(PickleBytes().Op("NN\x93.").s, "STACK_GLOBAL (0x93)", 4, "expected two strings");
  RefusesFormat(PickleBytes().Op(".").s, "STOP (0x2e)", 2, "expected one value on the stack, found 0 and 0 marks");
  RefusesFormat(PickleBytes().Op("N(.").s, "STOP (0x2e)", 4, "expected one value on the stack, found 1 and 1 marks");
  RefusesFormat(PickleBytes().Op("NN.").s, "STOP (0x2e)", 4, "expected one value on the stack, found 2 and 0 marks");
  RefusesFormat(PickleBytes().Op(Bin("8002") + "N.").s, "PROTO (0x80)", 2, "expected at the beginning only");
  Refuses(PickleBytes().Op("}").s, ErrorCode::kFormat, "pickle: expected STOP, found the end at offset 3");
  Refuses(PickleBytes().Op("}.}").s, ErrorCode::kFormat, "pickle: 1 bytes after STOP at offset 3");
  Refuses("}.", ErrorCode::kFormat, "pickle: expected PROTO 2 to 5 at its beginning, found '}.'");
  Refuses("", ErrorCode::kFormat, "pickle: expected PROTO 2 to 5 at its beginning, found ''");
  Refuses(Bin("8001") + "}.", ErrorCode::kFormat, "pickle: expected PROTO 2 to 5 at its beginning, found '\\x80\\x01'");
  Refuses(Bin("8006") + "}.", ErrorCode::kFormat, "pickle: expected PROTO 2 to 5 at its beginning, found '\\x80\\x06'");
}

}  // namespace
}  // namespace wf
