// Package web serves the pages that a scanned code and a link open on a phone: a void is approved there,
// a PIN or a passkey is set. It is HTTP over TLS for strangers: what may be done is for the [Backend] to
// say, by the code or the link, and by the passkey or the PIN.
//
// Pages are the same for everybody; what is shown comes by POST. Nothing is stored on the phone, and no
// code of others is loaded.
package web
