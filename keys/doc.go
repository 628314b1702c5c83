// Package keys is the inventory of sealed keys, as the front sees it.
//
// The front cannot use a key. It finds the sealed key of a name, reads its public
// header for the policy and the audit log, and hands both to a module. Nothing in a
// header is authenticated here: the module checks the seal before it believes any of
// it, so a front or a store that lies gains nothing.
//
// Rules:
//   - One name has one current version, the highest. Stopping it brings no older one
//     back. An older one is used where a request asks for it by its number.
//   - An alias stands for a key, in one step. Whoever decides and whoever records sees the
//     key's own name.
//   - What the store holds under a name has to be a sealed key whose own header says
//     that name and version.
//   - Whatever changes through an [Inventory] is durable, and no request that starts
//     afterwards sees the old key.
//
// Names are 1 to [MaxName] bytes, see [ValidName]; a request names a key by a reference,
// see [ValidReference]. Uses are counted in memory and kept every few seconds: a count is
// for people, and what a kill takes of it is lost. Times of validity are Unix seconds.
//
// Only the front uses this package.
package keys
