// Package quorum carries out ceremonies: what officers have signed together, and nothing
// else, changes which keys there are and who the officers are.
//
// The package keeps nothing between calls but a ceremony's private key, which lies in the
// token and is destroyed when the ceremony is over. The front keeps the papers
// ([ceremony.Proceedings]) and brings them with each call; whatever it leaves out, adds or
// mixes up is found, because every paper is signed and names the others by digest. A front
// that was taken over can hold a ceremony up.
//
// The order is the same for every kind:
//
//	Begin      an officer's signed wish → the module's signed opening
//	Check      as papers come in: are they good so far, and what is the key's check value
//	CarryOut   with all papers → a proposed epoch, a sealed key or a key block, a record
//	Commit     when the front has made these durable: the epoch is pinned, and counts
//
// CarryOut can be repeated as long as nothing was committed, and changes nothing by itself.
//
// Only hsm/module uses this package.
package quorum
