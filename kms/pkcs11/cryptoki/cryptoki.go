// Package cryptoki calls a PKCS #11 module, which is a shared library, without cgo.
//
// It speaks the part of PKCS #11 2.40 that finding a key pair and signing with it takes, and holds no opinion of its own:
// what is looked for, and what a failure means, is the caller's. The module runs in this process; a bad one crashes it.
package cryptoki

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"
)

// The constants of PKCS #11 that are needed, under the names of its header without CK.
const (
	UserUser        uint = 1
	ContextSpecific uint = 2

	ClassCertificate uint = 1
	ClassPublicKey   uint = 2
	ClassPrivateKey  uint = 3

	KeyRSA uint = 0x00
	KeyEC  uint = 0x03

	CertificateX509 uint = 0

	AttrClass              uint = 0x000
	AttrLabel              uint = 0x003
	AttrValue              uint = 0x011
	AttrCertificateType    uint = 0x080
	AttrKeyType            uint = 0x100
	AttrID                 uint = 0x102
	AttrModulus            uint = 0x120
	AttrPublicExponent     uint = 0x122
	AttrPublicKeyInfo      uint = 0x129
	AttrECParams           uint = 0x180
	AttrECPoint            uint = 0x181
	AttrAlwaysAuthenticate uint = 0x202

	MechRSAPKCS    uint = 0x0001
	MechRSAPKCSPSS uint = 0x000D
	MechECDSA      uint = 0x1041
	MechSHA256     uint = 0x0250
	MechSHA384     uint = 0x0260
	MechSHA512     uint = 0x0270
	MGF1SHA256     uint = 2
	MGF1SHA384     uint = 3
	MGF1SHA512     uint = 4

	FlagLoginRequired   uint = 1 << 2
	FlagPINPad          uint = 1 << 8
	FlagTokenReady      uint = 1 << 10
	FlagUserPINFinalTry uint = 1 << 17
	FlagUserPINLocked   uint = 1 << 18

	flagSerialSession uint = 1 << 2
	flagOSLocking     uint = 1 << 1
)

// Limits of what a module may answer.
const (
	maxObjects   = 4096
	maxSlots     = 256
	maxAttribute = 64 << 10
	maxSignature = 1024
)

// ErrUnsupported: modules cannot be loaded on this system.
var ErrUnsupported = errors.New("PKCS #11 modules can be loaded on 64-bit Linux and macOS only")

// functions are the calls of a module. A CK_ULONG is a uint: both have the width of a register where this is built.
type functions struct {
	initialize        func(args unsafe.Pointer) uint
	finalize          func(reserved unsafe.Pointer) uint
	getInfo           func(info unsafe.Pointer) uint
	getSlotList       func(present uint8, list, count unsafe.Pointer) uint
	getSlotInfo       func(slot uint, info unsafe.Pointer) uint
	getTokenInfo      func(slot uint, info unsafe.Pointer) uint
	getMechanismInfo  func(slot, mechanism uint, info unsafe.Pointer) uint
	openSession       func(slot, flags uint, application, notify, session unsafe.Pointer) uint
	closeSession      func(session uint) uint
	login             func(session, user uint, pin unsafe.Pointer, length uint) uint
	logout            func(session uint) uint
	getAttributeValue func(session, object uint, template unsafe.Pointer, count uint) uint
	findObjectsInit   func(session uint, template unsafe.Pointer, count uint) uint
	findObjects       func(session uint, objects unsafe.Pointer, limit uint, count unsafe.Pointer) uint
	findObjectsFinal  func(session uint) uint
	signInit          func(session uint, mechanism unsafe.Pointer, key uint) uint
	sign              func(session uint, data unsafe.Pointer, length uint, signature, signatureLength unsafe.Pointer) uint
}

// A Module is a loaded PKCS #11 library.
type Module struct {
	Path  string
	f     functions
	ours  bool // C_Initialize was ours, so C_Finalize is
	alone bool // it cannot lock: one call at a time
}

// Load loads the library at path, which must be absolute, and starts it. The error wraps [ErrUnsupported], is an [Error] of the
// module's, or says what the dynamic loader said.
func Load(path string) (*Module, error) {
	m := &Module{Path: path}
	if err := load(path, &m.f); err != nil {
		return nil, err
	}
	args := initializeArgs{flags: flagOSLocking}
	switch code := m.f.initialize(unsafe.Pointer(&args)); code {
	case ok:
		m.ours = true
	case AlreadyInitialized:
	case CantLock:
		if err := check("C_Initialize", m.f.initialize(nil)); err != nil {
			return nil, err
		}
		m.ours, m.alone = true, true
	default:
		return nil, check("C_Initialize", code)
	}
	return m, nil
}

// Close ends the module, unless somebody else in this process started it. It must not be used afterwards.
func (m *Module) Close() error {
	if !m.ours {
		return nil
	}
	return check("C_Finalize", m.f.finalize(nil))
}

// Alone reports that the module must be called by one goroutine at a time.
func (m *Module) Alone() bool { return m.alone }

// Info is what a module says of itself. Texts come without their padding.
type Info struct {
	Manufacturer, Description, Version string
}

// SlotInfo is what a module says of a slot.
type SlotInfo struct {
	Description, Manufacturer string
}

// TokenInfo is what a module says of a token.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string
	Flags                              uint
}

// Info returns what the module says of itself.
func (m *Module) Info() (Info, error) {
	var i info
	if err := check("C_GetInfo", m.f.getInfo(unsafe.Pointer(&i))); err != nil {
		return Info{}, err
	}
	return Info{text(i.manufacturer[:]), text(i.description[:]), fmt.Sprintf("%d.%d", i.version[0], i.version[1])}, nil
}

// Slots lists the slots with a token in them.
func (m *Module) Slots() ([]uint, error) {
	var n uint
	if err := check("C_GetSlotList", m.f.getSlotList(1, nil, unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, nil
	}
	if n > maxSlots {
		return nil, fmt.Errorf("the module has %d slots, at most %d are looked at", n, maxSlots)
	}
	slots := make([]uint, n)
	if err := check("C_GetSlotList", m.f.getSlotList(1, unsafe.Pointer(&slots[0]), unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	return slots[:min(n, uint(len(slots)))], nil
}

// Slot describes a slot.
func (m *Module) Slot(id uint) (SlotInfo, error) {
	var i slotInfo
	if err := check("C_GetSlotInfo", m.f.getSlotInfo(id, unsafe.Pointer(&i))); err != nil {
		return SlotInfo{}, err
	}
	return SlotInfo{text(i.description[:]), text(i.manufacturer[:])}, nil
}

// Token describes the token in a slot.
func (m *Module) Token(slot uint) (TokenInfo, error) {
	var i tokenInfo
	if err := check("C_GetTokenInfo", m.f.getTokenInfo(slot, unsafe.Pointer(&i))); err != nil {
		return TokenInfo{}, err
	}
	return TokenInfo{text(i.label[:]), text(i.manufacturer[:]), text(i.model[:]), text(i.serial[:]), i.flags}, nil
}

// Signs reports whether the token in a slot has a mechanism at all. What a module says of a mechanism besides is not to be relied on.
func (m *Module) Signs(slot, mech uint) (bool, error) {
	var i mechanismInfo
	switch code := m.f.getMechanismInfo(slot, mech, unsafe.Pointer(&i)); code {
	case ok:
		return true, nil
	case MechanismInvalid:
		return false, nil
	default:
		return false, check("C_GetMechanismInfo", code)
	}
}

// text cuts the blanks off with which PKCS #11 fills its texts, and what some modules fill them with instead.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(bytes.ToValidUTF8(bytes.TrimRight(b, " "), []byte("?")))
}
