// SPDX-License-Identifier: Apache-2.0
// The listener and its I/O threads, and the text of HTTP heads. The only translation unit with Boost.Beast.
#include "server/http.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <random>
#include <thread>

#include "server/http_session.h"
#include "wf/version.h"

namespace wf::server {
namespace {

using asio::ip::tcp;

constexpr std::string_view kServer = "wf";

int HexDigit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

const char* ReasonPhrase(int status) noexcept {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    default:
      return "Unknown";
  }
}

std::string RandomHex24() {
  static constexpr char kHex[] = "0123456789abcdef";
  static thread_local std::random_device device;
  std::string out;
  for (int i = 0; i < 3; ++i) {
    const uint32_t v = device();
    for (int shift = 28; shift >= 0; shift -= 4) out += kHex[(v >> shift) & 15u];
  }
  return out;
}

bool PercentDecode(std::string_view in, std::string* out) {
  out->clear();
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] != '%') {
      *out += in[i];
      continue;
    }
    if (i + 2 >= in.size()) return false;
    const int hi = HexDigit(in[i + 1]), lo = HexDigit(in[i + 2]);
    if (hi < 0 || lo < 0) return false;
    *out += static_cast<char>(hi * 16 + lo);
    i += 2;
  }
  return true;
}

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::string ResponseHead(const HttpResponse& r, const std::string& id, int64_t length, bool http11, bool keep_alive) {
  std::string out = http11 ? "HTTP/1.1 " : "HTTP/1.0 ";
  out += std::to_string(r.status) + ' ' + (r.reason.empty() ? ReasonPhrase(r.status) : r.reason.c_str()) + "\r\n";
  const auto field = [&out](std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
  };
  field("Server", kServer);
  field("Content-Type", r.content_type);
  field("x-request-id", id);
  for (const auto& [name, value] : r.headers) field(name, value);
  if (length >= 0) {
    field("Content-Length", std::to_string(length));
  } else if (http11) {
    field("Transfer-Encoding", "chunked");
  }
  if (!keep_alive || !http11) field("Connection", keep_alive ? "keep-alive" : "close");
  return out += "\r\n";
}

std::string Chunk(std::string_view piece) {
  char size[24];
  const int n = std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
  std::string out;
  out.reserve(static_cast<size_t>(n) + piece.size() + 2);
  out.append(size, static_cast<size_t>(n)).append(piece).append("\r\n");
  return out;
}

void SplitTarget(std::string_view target, std::string* path, std::string* query) {
  constexpr std::string_view kScheme = "http://";
  if (target.substr(0, kScheme.size()) == kScheme) {
    const size_t slash = target.find('/', kScheme.size());
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  const size_t question = target.find('?');
  *query = question == std::string_view::npos ? std::string() : std::string(target.substr(question + 1));
  target = target.substr(0, question);
  while (target.size() > 1 && target.back() == '/') target.remove_suffix(1);
  *path = std::string(target);
}

std::string RequestId(std::string_view offered) {
  bool usable = !offered.empty() && offered.size() <= 128;
  for (const char c : offered) usable = usable && c > ' ' && c < 127;
  return usable ? std::string(offered) : "req-" + RandomHex24();
}

struct HttpServer::Impl {
  asio::io_context io;
  tcp::acceptor acceptor{io};
  asio::steady_timer retry{io};
  std::shared_ptr<SessionShared> shared = std::make_shared<SessionShared>();
  std::vector<std::thread> threads;
  uint16_t port = 0;

  void Accept() {
    acceptor.async_accept(asio::make_strand(io), [this](beast::error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted || !acceptor.is_open()) return;
      if (ec) {  // out of descriptors, or the client left at once: go on listening, but do not spin
        retry.expires_after(std::chrono::milliseconds(50));
        retry.async_wait([this](beast::error_code e) {
          if (!e) Accept();
        });
        return;
      }
      beast::error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      std::make_shared<Session<tcp::socket>>(std::move(socket), shared)->Start();
      Accept();
    });
  }
};

HttpServer::HttpServer() : impl_(std::make_unique<Impl>()) {}
HttpServer::~HttpServer() { Stop(); }

Status HttpServer::Start(HttpOptions options, Handler handler) {
  const std::string where = options.host + ":" + std::to_string(options.port);
  beast::error_code ec;
  tcp::resolver resolver(impl_->io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, ec);
  if (ec || found.empty()) return IoError("cannot resolve " + where + ": " + ec.message());
  const tcp::endpoint endpoint = found.begin()->endpoint();
  const auto fail = [&](const char* what) { return IoError(std::string(what) + " " + where + ": " + ec.message()); };
  if (impl_->acceptor.open(endpoint.protocol(), ec); ec) return fail("cannot open a socket for");
  if (impl_->acceptor.set_option(tcp::acceptor::reuse_address(true), ec); ec) return fail("cannot listen on");
  if (impl_->acceptor.bind(endpoint, ec); ec) return fail("cannot listen on");
  if (impl_->acceptor.listen(1024, ec); ec) return fail("cannot listen on");
  impl_->port = impl_->acceptor.local_endpoint(ec).port();
  impl_->shared->limits = options.limits;
  impl_->shared->handler = std::move(handler);
  impl_->shared->error_body = std::move(options.error_body);
  impl_->Accept();
  for (int i = 0; i < options.threads; ++i) {
    impl_->threads.emplace_back([impl = impl_.get()] { impl->io.run(); });
  }
  return OkStatus();
}

uint16_t HttpServer::port() const noexcept { return impl_->port; }
void HttpServer::CloseAfterAnswers() noexcept { impl_->shared->closing.store(true); }
int HttpServer::active() const noexcept { return impl_->shared->active.load(); }

void HttpServer::Stop() {
  impl_->shared->stopped.store(true);
  impl_->io.stop();
  for (std::thread& t : impl_->threads) t.join();
  impl_->threads.clear();
}

}  // namespace wf::server
