// Package officer is what a security officer does at a machine of their own: it keeps
// the officer's signing key, remembers whom the officer trusts, takes key components from
// paper, and talks to a module through a service ([Client]).
//
// Rules. Nothing that a server sends is believed before the officer has compared it
// (known.go), or the module or an officer of the roster has signed it (papers.go): the
// service in between is a messenger. A component is typed without echo, or
// read from a descriptor; it never stands in an argument, an environment variable or a
// file. It lives in a [Secret]: memory outside of the heap, which prints as nothing and
// which whoever got it destroys. Errors say what to do next, and never what was typed.
//
// Units. Sizes of secrets are in bytes. What a person reads or types is upper-case hex
// in groups of four digits. Check values are six digits.
//
// Commands call it, and package development for its officers' keys. It imports neither the
// module nor anything of a server.
package officer
