// Package server binds keyd's services to gRPC over mutual TLS 1.3.
//
// One request goes one way, through these steps, each in a file of its own:
//
//	tls.go        a client certificate of a known authority, or no connection
//	makers.go     or that of a terminal, by a maker whom officers believe
//	call.go       the request gets an identifier
//	translate.go  every error becomes a status with its reason and nothing else
//	observe.go    the request is counted, and traced where that is configured
//	recovery.go   a panic becomes an internal error
//	record.go     the decision is in the audit log before the answer leaves
//	deadline.go   the time that the request may take
//	identity.go   who asks: the SPIFFE ID of the certificate, or the terminal that has its key
//	rate.go       how many requests, and denials, the identity may make
//	gate.go       the policy in force; a method without a row in the policies' table is denied; so is a
//	              success for which nobody asked the policy
//	decode.go     what does not parse, or has unknown fields, is refused, not ignored
//	pin.go, …     the binding: messages of the contract to requests of the domain
//	stream.go     each item of a stream goes all of this way, as a request of its own
//
// The order of refusals is that of fault.Table. Health checks and reflection need a
// valid certificate only, and leave no audit entry.
//
// No PAN, PIN block or verification value reaches a log line. Successes are not logged,
// since the audit log has them; denials and failures are, with their request
// identifier, which the caller finds in the status.
//
// Only the front uses this package.
package server
