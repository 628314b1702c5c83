// Package dataops enciphers and deciphers data inside the boundary, in CBC and CTR mode,
// with static keys of usage D0 and with the data keys of DUKPT.
//
// Rules, in the order in which they are checked: the sealed key is genuine and valid now;
// the key serial number fits the key; usage, mode of use, algorithm and direction fit what
// is asked; data go only to peers of the key that they come from; data and initialization
// vector have the sizes of the mode. So a key that carries PINs or keys is of no use here,
// and no PIN block and no key can be deciphered.
//
// In CTR mode the first counter block of an encipherment is made here. With one of the
// caller's choice, whoever may encipher could decipher as well.
//
// Deciphered data that leave are the caller's. Those that only change the key exist in the
// session's locked memory, a part at a time, and are wiped.
//
// Units: sizes are bytes.
//
// Only hsm/module uses it.
package dataops
