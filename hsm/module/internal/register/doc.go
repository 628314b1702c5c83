// Package register is what a module remembers of officers and keys: the epoch
// ([ceremony.Epoch]), who its officers are and which keys they have brought in, stopped
// and destroyed. The front keeps the document; the token keeps its version and digest (the
// pin), so that no other one is believed.
//
// Rules:
//   - An epoch counts from the moment at which it is pinned. Before that it is a proposal,
//     which is authenticated, names the epoch before by its digest, and changes nothing. So
//     the front can make it durable first: what is pinned is never lost.
//   - Of several pins the newest counts; older ones are left over from a loss of power.
//   - The modules of a host share a page of memory which the front never gets. It holds
//     the version that is pinned, so that a module notices with one load that another has
//     pinned an epoch which it does not know yet. It then refuses everything until a front
//     brings the document. Modules of other hosts on the same token look at the pin now and
//     then ([Register.Refresh]).
//   - Time never goes behind the moment at which the epoch began.
//
// Only hsm/module uses this package.
package register
