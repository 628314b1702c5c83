package web

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"time"
)

// Limits of a connection. A phone at the edge of a cell takes seconds for what is here; who takes
// longer is cut off.
const (
	MaxHeader = 8 << 10 // bytes; net/http itself lets 4 KiB more pass

	headerTime  = 5 * time.Second  // for the handshake of TLS, and for a request's header
	requestTime = 10 * time.Second // for a whole request, and for what the backend takes
	answerTime  = 40 * time.Second // until an answer has been taken: the largest page at 2G speed
	idleTime    = 30 * time.Second
	pingTime    = 15 * time.Second // of an HTTP/2 connection on which nothing comes
	streams     = 32               // of an HTTP/2 connection at once: a page asks for all that it has
)

// Server returns a server of the pages, with its limits. It listens nowhere; who serves it gives the
// certificate to its TLSConfig, and a listener that [Limit] has bounded.
func Server(c Config) (*http.Server, error) {
	handler, err := New(c)
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:   handler,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: streams, MaxDecoderHeaderTableSize: 4 << 10, MaxEncoderHeaderTableSize: 4 << 10,
			MaxReadFrameSize: 16 << 10, MaxReceiveBufferPerConnection: 128 << 10, MaxReceiveBufferPerStream: 2 * MaxBody,
			SendPingTimeout: pingTime, PingTimeout: pingTime, WriteByteTimeout: pingTime,
		},
		MaxHeaderBytes:    MaxHeader,
		ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		DisableGeneralOptionsHandler: true,
		// What strangers do to connections is worth no line each, and fills disks.
		ErrorLog: log.New(io.Discard, "", 0),
	}, nil
}
