// Package vault is what the unlock process asks of a HashiCorp Vault: the token PIN, and
// certificates.
//
// Two commands of the supervisor's call it: [Start] once, before the first front, and
// [Renew] at intervals. Each is a process of its own that lives for moments. It resolves
// Vault's name, confines itself to Vault's port and to the files that it is about
// (package confine), and ends. No other process of keyd talks to Vault or holds what it
// would take to: neither front, nor module, nor supervisor.
//
// What one process leaves for the next, the login, lies in a memory file that the supervisor
// passes on without reading it (package pinfile). Nothing of it reaches a disk. What the
// front may know, names, dates and errors, lies in another (package report).
//
// Errors say what to do next. They hold no secret: what Vault answers is quoted in part, and
// without anything that was sent to it.
package vault
