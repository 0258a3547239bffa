// SPDX-License-Identifier: Apache-2.0
// The HTTP layer alone, with a handler of the test's own and limits short enough to be crossed: time-outs, pings,
// clients that leave, answers that never come.
#include "server/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "server/errors.h"
#include "tests/catch.h"

using namespace wf::server;  // NOLINT

namespace {

constexpr int kPatienceMs = 60000;  // for what must happen at some time

class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0;
  }
  ~Client() { Close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  bool connected() const { return connected_; }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void Send(const std::string& s) { CHECK(::send(fd_, s.data(), s.size(), MSG_NOSIGNAL) >= 0); }
  void EndSending() { ::shutdown(fd_, SHUT_WR); }
  // Reads until `text` has come, or the end; everything read so far.
  const std::string& Until(const std::string& text) {
    while (seen_.find(text) == std::string::npos && More()) {
    }
    return seen_;
  }
  const std::string& ToEnd() {
    while (More()) {
    }
    return seen_;
  }

 private:
  bool More() {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, kPatienceMs) <= 0) return false;
    char buffer[4096];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) seen_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }
  int fd_;
  bool connected_ = false;
  std::string seen_;
};

struct Fixture {
  HttpServer server;
  HttpOptions options;
  Fixture() {
    options.port = 0;
    options.error_body = HttpErrorBody;
  }
  void Start(Handler handler) { REQUIRE(server.Start(options, std::move(handler)).ok()); }
  bool WaitFor(const std::function<bool()>& f) const {
    for (int i = 0; i < kPatienceMs / 5; ++i) {
      if (f()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
};

Handler Echo() {
  return [](HttpRequest&& r, std::shared_ptr<Responder> out) {
    HttpResponse a;
    a.body = r.method + " " + r.path + " " + r.query + " " + r.body;
    out->Send(std::move(a));
  };
}

const std::string kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

}  // namespace

TEST_CASE_METHOD(Fixture, "targets are split and slashes at the end do not matter") {
  Start(Echo());
  Client c(server.port());
  REQUIRE(c.connected());
  c.Send("POST http://host/a/b/?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
  const std::string& answer = c.ToEnd();
  CHECK(answer.find("POST /a/b q=1 hi") != std::string::npos);
  CHECK(answer.find("Connection: close") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "a body that does not come is 408") {
  options.limits.body_ms = 50;
  Start(Echo());
  Client c(server.port());
  c.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
  const std::string& answer = c.Until("request_timeout");
  CHECK(answer.find("HTTP/1.1 408 Request Timeout\r\n") == 0);
  CHECK(answer.find("\"type\":\"timeout_error\"") != std::string::npos);
  c.EndSending();
  CHECK(c.ToEnd() == answer);
}

TEST_CASE_METHOD(Fixture, "a head that does not end is 408, silence between requests just ends the connection") {
  options.limits.header_ms = 50;
  options.limits.idle_ms = 50;
  Start(Echo());
  Client slow(server.port());
  slow.Send("GET /a HT");
  CHECK(slow.Until("}}").find("HTTP/1.1 408") == 0);
  Client silent(server.port());
  CHECK(silent.ToEnd().empty());
  Client once(server.port());
  once.Send(kGet);
  CHECK(once.ToEnd().find("HTTP/1.1 200 OK") == 0);
}

TEST_CASE_METHOD(Fixture, "a silent event stream shows that it lives") {
  options.limits.ping_ms = 20;
  std::shared_ptr<Responder> kept;
  std::mutex mutex;
  Start([&](HttpRequest&&, std::shared_ptr<Responder> out) {
    HttpResponse head;
    head.content_type = "text/event-stream";
    out->StartStream(std::move(head), ": ping\n\n");
    const std::lock_guard lock(mutex);
    kept = std::move(out);
  });
  Client c(server.port());
  c.Send(kGet);
  CHECK(c.Until("8\r\n: ping\n\n\r\n8\r\n: ping\n\n\r\n").find("Transfer-Encoding: chunked") != std::string::npos);
  {
    const std::lock_guard lock(mutex);
    kept->Write("data: 1\n\n");
    kept->End();
    kept.reset();
  }
  CHECK(c.Until("0\r\n\r\n").find("9\r\ndata: 1\n\n\r\n") != std::string::npos);
  CHECK(WaitFor([&] { return server.active() == 0; }));
}

TEST_CASE_METHOD(Fixture, "a client that leaves is noticed before and during the answer, once") {
  std::atomic<int> gone{0};
  const bool stream = GENERATE(false, true);
  Start([&gone, stream](HttpRequest&&, std::shared_ptr<Responder> out) {
    if (stream) {
      out->StartStream({}, "");
      out->Write("x");
    }
    out->OnGone([&gone, out] { ++gone; });
  });
  Client c(server.port());
  c.Send(kGet);
  if (stream) c.Until("x\r\n");
  REQUIRE(WaitFor([&] { return server.active() == 1; }));
  c.Close();
  CHECK(WaitFor([&] { return gone.load() == 1; }));
  CHECK(WaitFor([&] { return server.active() == 0; }));
  CHECK(gone.load() == 1);
}

TEST_CASE_METHOD(Fixture, "a half-closed client gets its answer if that is allowed") {
  options.limits.half_close_is_gone = false;
  Start([](HttpRequest&&, std::shared_ptr<Responder> out) {
    out->PostAfter(30, [out] {
      HttpResponse a;
      a.body = "late";
      out->Send(std::move(a));
    });
  });
  Client c(server.port());
  c.Send(kGet);
  c.EndSending();
  CHECK(c.ToEnd().find("late") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "a request that nobody answers is a 500 in JSON") {
  Start([](HttpRequest&&, std::shared_ptr<Responder>) {});
  Client c(server.port());
  c.Send(kGet);
  const std::string& answer = c.Until("}}");
  CHECK(answer.find("HTTP/1.1 500 Internal Server Error\r\n") == 0);
  CHECK(answer.find("\"code\":\"internal\"") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "an answer is complete once, whatever is called after it") {
  Start([](HttpRequest&&, std::shared_ptr<Responder> out) {
    HttpResponse a;
    a.body = "first";
    out->Send(a);
    a.body = "second";
    out->Send(a);
    out->StartStream({}, "");
    out->Write("third");
    out->End();
  });
  Client c(server.port());
  c.Send(kGet + "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string& all = c.ToEnd();
  CHECK(all.find("first") != all.rfind("first"));
  CHECK(all.find("second") == std::string::npos);
  CHECK(all.find("third") == std::string::npos);
}

TEST_CASE_METHOD(Fixture, "a stream that breaks off has no last chunk") {
  Start([](HttpRequest&&, std::shared_ptr<Responder> out) {
    out->StartStream({}, "");
    out->Write("part");
    out->End(false);
  });
  Client c(server.port());
  c.Send(kGet);
  const std::string& all = c.ToEnd();
  CHECK(all.find("4\r\npart\r\n") != std::string::npos);
  CHECK(all.find("0\r\n\r\n") == std::string::npos);
}

TEST_CASE_METHOD(Fixture, "a client that takes nothing does not keep its answer for ever") {
  options.limits.write_ms = 50;
  Start([](HttpRequest&&, std::shared_ptr<Responder> out) {
    HttpResponse a;
    a.body.assign(64u << 20, 'x');
    out->Send(std::move(a));
  });
  Client c(server.port());
  c.Send(kGet);
  REQUIRE(WaitFor([&] { return server.active() == 1; }));
  CHECK(WaitFor([&] { return server.active() == 0; }));
}

TEST_CASE_METHOD(Fixture, "a taken port is an error that names it") {
  Start(Echo());
  HttpServer second;
  HttpOptions same = options;
  same.port = server.port();
  const wf::Status s = second.Start(same, Echo());
  CHECK(s.code() == wf::ErrorCode::kIo);
  CHECK(s.message().find("127.0.0.1:" + std::to_string(server.port())) != std::string::npos);
}

TEST_CASE("percent sequences are decoded or refused") {
  std::string out;
  CHECK(PercentDecode("org%2Fname%20", &out));
  CHECK(out == "org/name ");
  CHECK_FALSE(PercentDecode("%2", &out));
  CHECK_FALSE(PercentDecode("%zz", &out));
}
