// Package client calls keyd from a switch or an issuer host: several keyds behind one
// client, calls repeated only where that is safe, translations on streams.
//
// Rules:
//   - Calls go in turn to every keyd that says it is healthy. One that drains, or has no
//     module, gets none.
//   - Calls about the same DUKPT terminal go to the same keyd, its home, while that one
//     serves. A keyd records key serial numbers in a database of its own, where an identical
//     retry finds the stored answer and every KSN is accepted once. All clients with the
//     same list of addresses agree on a terminal's home.
//   - What gRPC knows never to have reached a keyd it sends again itself, whatever the
//     method. If no keyd is healthy, a call waits for one until its deadline.
//   - What may have been carried out is repeated by the table in methods.go, within the
//     caller's deadline, with growing pauses, and within a budget that all calls share.
//   - A refusal that another try would not change is never repeated.
//
// The home is a preference: when it does not serve, another keyd takes the request. That
// one has another database and so accepts a KSN that the home may have accepted. The
// answer is right, and a front accepts the KSN once more; that is the price of serving
// when a keyd is lost. With one keyd, or several names of one, there is nothing to choose.
//
// Errors are gRPC statuses as keyd sent them; [ReasonOf] reads the reason. A wrong PIN is
// an answer, not an error: [OutcomeOf] tells them apart.
//
// Units: deadlines and pauses are [time.Duration]. A [Client] and a [Stream] may be used
// by many goroutines at once, and should be: make one, and keep it.
//
// A switch imports this package and api/keyd/v1, and nothing else of keyd.
package client
