// SPDX-License-Identifier: Apache-2.0
// The HTTP session on a stream in memory: whatever way bytes arrive, the answers are the same.
#include <boost/asio/io_context.hpp>
#include <boost/beast/_experimental/test/stream.hpp>
#include <random>
#include <string>
#include <vector>

#include "server/errors.h"
#include "server/http_session.h"
#include "tests/catch.h"

namespace wf::server {

template <>
struct StreamOps<beast::test::stream> {
  static void Cancel(beast::test::stream& s) { s.close(); }
  static void ShutdownSend(beast::test::stream&) {}
  static void Close(beast::test::stream& s) { s.close(); }
};

}  // namespace wf::server

using namespace wf::server;  // NOLINT

namespace {

// What the session answers if `message` arrives cut at `cuts` (ascending offsets).
std::string Answers(const std::string& message, const std::vector<size_t>& cuts) {
  asio::io_context io;
  auto shared = std::make_shared<SessionShared>();
  shared->limits.header_bytes = 512;
  shared->limits.body_bytes = 64;
  shared->limits.pipelined_bytes = 1;  // a read of this stream can't be cancelled, as going on with read-ahead needs
  shared->error_body = HttpErrorBody;
  shared->handler = [](HttpRequest&& r, std::shared_ptr<Responder> out) {
    if (r.path == "/stream") {
      HttpResponse head;
      head.content_type = "text/event-stream";
      out->StartStream(std::move(head), "");
      for (const char c : r.body) out->Write(std::string(1, c));
      return out->End();
    }
    HttpResponse a;
    a.body = r.method + " " + r.path + "?" + r.query + "=" + r.body;
    out->Send(std::move(a));
  };
  beast::test::stream server(io), client(io);
  server.connect(client);
  std::make_shared<Session<beast::test::stream>>(std::move(server), shared)->Start();
  io.poll();
  size_t at = 0;
  for (size_t i = 0; i <= cuts.size(); ++i) {
    const size_t end = i < cuts.size() ? cuts[i] : message.size();
    beast::error_code ec;
    client.write_some(asio::buffer(message.data() + at, end - at), ec);
    if (ec) break;
    io.restart();
    io.poll();
    at = end;
  }
  std::string answers(client.str());
  client.close();
  io.restart();
  io.poll();
  shared->stopped.store(true);
  CHECK(shared->active.load() == 0);
  return answers;
}

const std::string kId = "x-request-id: t\r\n";

}  // namespace

TEST_CASE("the split of a request's bytes does not show in its answers") {
  const std::string good = "POST /a?q HTTP/1.1\r\n" + kId + "Content-Length: 5\r\n\r\nhello" + "GET /b/ HTTP/1.1\r\n" +
                           kId + "\r\n" + "POST /stream HTTP/1.1\r\n" + kId + "Transfer-Encoding: chunked\r\n\r\n" +
                           "2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nTrailer: z\r\n\r\n" + "HEAD /c HTTP/1.1\r\n" + kId + "\r\n";
  const std::string too_big = "POST /a HTTP/1.1\r\n" + kId + "Content-Length: 65\r\n\r\n";
  const std::string bad_chunk = "POST /a HTTP/1.1\r\n" + kId + "Transfer-Encoding: chunked\r\n\r\n2\r\nabXX\r\n";
  std::mt19937 random(7);
  for (const std::string& message : {good, too_big, bad_chunk}) {
    const std::string whole = Answers(message, {});
    REQUIRE_FALSE(whole.empty());
    std::vector<size_t> bytes;
    for (size_t i = 1; i < message.size(); ++i) bytes.push_back(i);
    CHECK(Answers(message, bytes) == whole);
    for (int round = 0; round < 300; ++round) {
      std::vector<size_t> cuts;
      for (size_t i = 1; i < message.size(); ++i) {
        if (random() % 16 == 0) cuts.push_back(i);
      }
      if (Answers(message, cuts) != whole) FAIL("differs in round " << round);
    }
  }
  const std::string whole = Answers(good, {});
  CHECK(whole.find("POST /a?q=hello") != std::string::npos);
  CHECK(whole.find("GET /b?=") != std::string::npos);
  CHECK(whole.find("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n") != std::string::npos);
  CHECK(whole.find("GET /c?=") == std::string::npos);  // HEAD: no body
  CHECK(Answers(too_big, {}).find("HTTP/1.1 413 ") == 0);
  CHECK(Answers(bad_chunk, {}).find("HTTP/1.1 400 ") == 0);
}

TEST_CASE("a head that never ends is cut at its limit") {
  const std::string endless = "GET / HTTP/1.1\r\nX: " + std::string(2000, 'a');
  CHECK(Answers(endless, {}).find("HTTP/1.1 431 ") == 0);
}
