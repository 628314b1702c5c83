// Package policies decides who may call which method with which keys.
//
// A policy is a strict YAML file: identities (SPIFFE IDs) have roles, roles have
// rules, a rule names methods, key names and key usages. What no rule covers is
// denied: an identity without an entry, a role without a rule, an empty list and a
// method that [Methods] does not know. "Everything" has to be written as "*".
//
// One rule has to cover the whole request, that is the method and every key that it
// names. Two rules never add up: permission to translate from A to B and from C to D
// is none to translate from A to D.
//
// The package belongs to the front. It is the first of two walls: it decides who may
// ask. What may ever be done, whoever asks, is decided again behind the hardware
// boundary. Nothing here is secret, and every decision may be logged.
//
// Sizes are bytes; a file has at most [MaxSize] of them. Health checks and reflection
// are outside: any valid certificate may call them.
package policies
