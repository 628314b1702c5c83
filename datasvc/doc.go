// Package datasvc carries out, for callers of the front, the operations on what is neither
// a PIN nor a key: message authentication codes, data that are enciphered and deciphered,
// and card verification values.
//
// Rules. The first check that fails decides the refusal, in the order of package pinsvc:
// shape, policy, keys, and then whatever the module refuses. Its rules are not repeated
// here. Under a BDK whose header asks for it, a key serial number is accepted once for each
// use: MAC or data, request or response. A MAC that is wrong uses up none. An identical
// retry is carried out again, since messages and data can be large: it gets the same answer,
// but for an encipherment, whose initialization vector may be another.
//
// Units. Sizes are bytes. A message and data have at most [MaxMessage].
//
// Only the front uses this package.
package datasvc
