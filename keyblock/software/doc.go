// Package software opens key blocks of versions B and D (ANSI X9.143-2021 7.2) with a key block
// protection key in memory, as a terminal does with what it gets. It is the terminal side: the
// simulated terminal and tests call it. keyd's own side is hsm/module, where the token does it.
//
// # Rules
//
//   - Nothing of a block is believed, and no key is returned, before its MAC was verified.
//   - Each fault has an error of its own, here or in package keyblock. Errors hold no key.
//   - Derived keys are cleared before a call returns. The schedules that crypto/aes and crypto/des
//     keep on the heap cannot be reached from here.
//
// Sizes are bytes. CMAC is here too, since key blocks are made of it.
package software
