package token

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Class says what to do about a PKCS#11 return value.
type Class uint8

const (
	// TokenDead: the process must end; the supervisor starts another. Every value
	// that is not in the table is of this class.
	TokenDead Class = iota
	// SessionDead: the session must be closed and replaced.
	SessionDead
	// HandleStale: objects of the session have gone; they must be made again.
	HandleStale
	// Busy: the token is busy or short of something; the caller may try again.
	Busy
	// Refused: the token refused the data, a forged wrapped key for one.
	Refused
	// Bug: keyd called the token in a way it should not.
	Bug
	// LoginFailed: the PIN is wrong, locked or expired. It is never tried again: one
	// more attempt may lock the token.
	LoginFailed
)

// classes is the one place where a return value gets its meaning.
var classes = map[uint]Class{
	pkcs11.CKR_SESSION_CLOSED:                SessionDead,
	pkcs11.CKR_SESSION_HANDLE_INVALID:        SessionDead,
	pkcs11.CKR_SESSION_READ_ONLY:             SessionDead,
	pkcs11.CKR_OPERATION_ACTIVE:              SessionDead,
	pkcs11.CKR_OPERATION_NOT_INITIALIZED:     SessionDead,
	pkcs11.CKR_FUNCTION_CANCELED:             SessionDead,
	pkcs11.CKR_KEY_HANDLE_INVALID:            HandleStale,
	pkcs11.CKR_OBJECT_HANDLE_INVALID:         HandleStale,
	pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID:   HandleStale,
	pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID: HandleStale,

	pkcs11.CKR_HOST_MEMORY:       Busy,
	pkcs11.CKR_DEVICE_MEMORY:     Busy,
	pkcs11.CKR_SESSION_COUNT:     Busy,
	pkcs11.CKR_FUNCTION_REJECTED: Busy,

	pkcs11.CKR_WRAPPED_KEY_INVALID:      Refused,
	pkcs11.CKR_WRAPPED_KEY_LEN_RANGE:    Refused,
	pkcs11.CKR_ENCRYPTED_DATA_INVALID:   Refused,
	pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE: Refused,
	pkcs11.CKR_SIGNATURE_INVALID:        Refused,
	pkcs11.CKR_SIGNATURE_LEN_RANGE:      Refused,
	pkcs11.CKR_KEY_SIZE_RANGE:           Refused,

	pkcs11.CKR_ARGUMENTS_BAD:                    Bug,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:              Bug,
	pkcs11.CKR_ATTRIBUTE_SENSITIVE:              Bug,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:           Bug,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:          Bug,
	pkcs11.CKR_BUFFER_TOO_SMALL:                 Bug,
	pkcs11.CKR_DATA_INVALID:                     Bug,
	pkcs11.CKR_DATA_LEN_RANGE:                   Bug,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:           Bug,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED:       Bug,
	pkcs11.CKR_KEY_NOT_WRAPPABLE:                Bug,
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:            Bug,
	pkcs11.CKR_KEY_UNEXTRACTABLE:                Bug,
	pkcs11.CKR_MECHANISM_INVALID:                Bug,
	pkcs11.CKR_MECHANISM_PARAM_INVALID:          Bug,
	pkcs11.CKR_TEMPLATE_INCOMPLETE:              Bug,
	pkcs11.CKR_TEMPLATE_INCONSISTENT:            Bug,
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:            Bug,
	pkcs11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: Bug,
	pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT:   Bug,

	pkcs11.CKR_PIN_INCORRECT:            LoginFailed,
	pkcs11.CKR_PIN_INVALID:              LoginFailed,
	pkcs11.CKR_PIN_LEN_RANGE:            LoginFailed,
	pkcs11.CKR_PIN_EXPIRED:              LoginFailed,
	pkcs11.CKR_PIN_LOCKED:               LoginFailed,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED: LoginFailed,
}

// Error is a failed PKCS#11 call.
type Error struct {
	Call string // C function
	Code uint   // CKR value
}

// Error names the function and the return value; it never holds data.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s", e.Call, pkcs11.Error(e.Code).Error())
}

// Class says what to do about the error.
func (e *Error) Class() Class {
	return classes[e.Code] // the zero value is TokenDead
}

// ClassOf returns the class of a token error anywhere in err's chain. An error that
// is none is a Bug.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class()
	}
	return Bug
}

// call gives a return value of a direct call its function's name.
func call(name string, code uint) error {
	if code == pkcs11.CKR_OK {
		return nil
	}
	return failed(name, code)
}

// named gives an error of the pkcs11 package its function's name.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	var code pkcs11.Error
	if errors.As(err, &code) {
		return failed(name, uint(code))
	}
	return fmt.Errorf("%s: %w", name, err)
}
