// An echo server as its users write it: no compression, no TLS, one thread, epoll. It prints its port once it listens.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "App.h"

struct Nothing {};

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        std::fprintf(stderr, "usage: %s PORT [ADDRESS]\n", argv[0]);
        return 2;
    }
    const int port = std::atoi(argv[1]);
    const std::string address = argc == 3 ? argv[2] : "127.0.0.1";
    uWS::App()
        .ws<Nothing>("/*",
                     {.compression = uWS::DISABLED,
                      .maxPayloadLength = 128 * 1024,
                      // Longer than a comparison takes: a client that is held needs no ping.
                      .idleTimeout = 960,
                      .sendPingsAutomatically = false,
                      .message = [](auto *socket, std::string_view message,
                                    uWS::OpCode code) { socket->send(message, code); }})
        .listen(address, port,
                [port](auto *listening) {
                    if (listening == nullptr) {
                        std::fprintf(stderr, "port %d cannot be listened on\n", port);
                        std::exit(1);
                    }
                    std::printf("ready port=%d\n", us_socket_local_port(0, (us_socket_t *)listening));
                    std::fflush(stdout);
                })
        .run();
    return 1;
}
