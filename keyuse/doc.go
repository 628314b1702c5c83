// Package keyuse is how a request of the front comes to its keys, whatever it is for: the
// keys that it names are resolved and the policy is asked, its key serial numbers are
// accepted once, and the audit entry says which keys it was about.
//
// Rules. Whether the caller may use a key comes before whether there is one: who may not
// does not learn which keys there are. A key serial number is recorded (package ksn) after
// the module has carried the request out and before the answer leaves. What a refusal says
// names the field that is wrong and what is right, and never a digit of what was sent.
//
// Only the domains of the front use it (pinsvc, datasvc).
package keyuse
