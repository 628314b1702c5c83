// Package terminals is the inventory of terminals: which there are, whose they are, with which
// certificate a device proves itself, and what has happened to it.
//
// Rules:
//   - A terminal is REGISTERED or SUSPENDED, and goes from one to the other any number of
//     times; from either it becomes RETIRED or REPLACED, and stays so for ever.
//   - No two terminals ever have the same public key, whatever their states, and no terminal
//     ever has two: a history can be told of a key.
//   - A certificate counts when it leads to an authority that officers believe for terminals
//     ([Authorities]); without one, none does.
//   - A terminal may be registered before its certificate is known. No key may be sent to a
//     terminal on the word of the inventory alone: whoever sends one checks the certificate
//     again, at that time.
//   - Each change is an event, kept in the same transaction with who did it and when.
//
// Whoever asks is allowed to: the policy was asked before. Errors are refusals of package
// fault, or the context's own. Package batch reads files of many terminals; only the front
// uses this one.
package terminals
