// Package keys is the inventory of sealed keys, as the front sees it.
//
// The front cannot use a key. It finds the sealed key of a name, reads its public
// header for the policy and the audit log, and hands both to a module. Nothing in a
// header is authenticated here: the module checks the seal before it believes any of
// it, so a front or a store that lies gains nothing.
//
// Rules:
//   - One name has one current version, the highest. Stopping it brings no older one
//     back.
//   - What the store holds under a name has to be a sealed key whose own header says
//     that name and version.
//   - Whatever changes through an [Inventory] is durable, and no request that starts
//     afterwards sees the old key.
//
// Names are 1 to [MaxName] bytes, see [ValidName]. Times of validity are Unix seconds.
//
// Only the front uses this package.
package keys
