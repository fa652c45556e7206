//go:build linux || darwin

// Command provision fills SoftHSM with tokens and objects for tests. SoftHSM reads its configuration from the environment of its
// process, so that tests with tokens of their own cannot do it in theirs.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

// The functions of the module, by the names of PKCS #11.
type functions struct {
	initialize   func(args unsafe.Pointer) uint
	finalize     func(reserved unsafe.Pointer) uint
	getSlotList  func(present uint8, list, count unsafe.Pointer) uint
	getTokenInfo func(slot uint, info unsafe.Pointer) uint
	initToken    func(slot uint, pin unsafe.Pointer, n uint, label unsafe.Pointer) uint
	openSession  func(slot, flags uint, application, notify, session unsafe.Pointer) uint
	closeSession func(session uint) uint
	login        func(session, user uint, pin unsafe.Pointer, n uint) uint
	logout       func(session uint) uint
	initPIN      func(session uint, pin unsafe.Pointer, n uint) uint
	createObject func(session uint, template unsafe.Pointer, n uint, object unsafe.Pointer) uint
}

type attribute struct {
	typ    uint
	value  unsafe.Pointer
	length uint
}

// tokenInfo is CK_TOKEN_INFO.
type tokenInfo struct {
	label        [32]byte
	manufacturer [32]byte
	model        [16]byte
	serial       [16]byte
	flags        uint
	_            [10]uint
	_            [20]byte
}

const (
	sessionFlags = 6 // CKF_RW_SESSION | CKF_SERIAL_SESSION
	initialised  = 1 << 10
)

func main() {
	var order pkcs11test.Order
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		fail(err.Error())
	}
	library, err := purego.Dlopen(order.Module, purego.RTLD_NOW)
	if err != nil {
		fail(err.Error())
	}
	var f functions
	for name, fn := range map[string]any{
		"C_Initialize": &f.initialize, "C_Finalize": &f.finalize, "C_GetSlotList": &f.getSlotList, "C_GetTokenInfo": &f.getTokenInfo,
		"C_InitToken": &f.initToken, "C_OpenSession": &f.openSession, "C_CloseSession": &f.closeSession, "C_Login": &f.login,
		"C_Logout": &f.logout, "C_InitPIN": &f.initPIN, "C_CreateObject": &f.createObject,
	} {
		purego.RegisterLibFunc(fn, library, name)
	}
	check("C_Initialize", f.initialize(nil))
	for _, t := range order.Tokens {
		f.token(t)
	}
	// A slot's number is final when the module starts anew.
	check("C_Finalize", f.finalize(nil))
	check("C_Initialize", f.initialize(nil))
	made := []pkcs11test.Made{}
	for _, slot := range f.slots() {
		if info := f.info(slot); info.flags&initialised != 0 {
			made = append(made, pkcs11test.Made{
				Label: strings.TrimRight(string(info.label[:]), " "), Serial: strings.TrimRight(string(info.serial[:]), " "), Slot: slot,
			})
		}
	}
	check("C_Finalize", f.finalize(nil))
	if err := json.NewEncoder(os.Stdout).Encode(made); err != nil {
		fail(err.Error())
	}
}

func (f *functions) slots() []uint {
	var n uint
	check("C_GetSlotList", f.getSlotList(1, nil, unsafe.Pointer(&n))) // also makes SoftHSM offer a new slot
	slots := make([]uint, n)
	check("C_GetSlotList", f.getSlotList(1, unsafe.Pointer(&slots[0]), unsafe.Pointer(&n)))
	return slots[:n]
}

func (f *functions) info(slot uint) *tokenInfo {
	info := new(tokenInfo)
	check("C_GetTokenInfo", f.getTokenInfo(slot, unsafe.Pointer(info)))
	return info
}

// token initialises the first free slot.
func (f *functions) token(t pkcs11test.TokenOrder) {
	const soPIN = "security-officer"
	for _, slot := range f.slots() {
		if f.info(slot).flags&initialised != 0 {
			continue
		}
		label := []byte(fmt.Sprintf("%-32s", t.Label))
		so, pin := []byte(soPIN), []byte(t.PIN)
		check("C_InitToken", f.initToken(slot, unsafe.Pointer(&so[0]), uint(len(so)), unsafe.Pointer(&label[0])))
		var s uint
		check("C_OpenSession", f.openSession(slot, sessionFlags, nil, nil, unsafe.Pointer(&s)))
		check("C_Login", f.login(s, 0, unsafe.Pointer(&so[0]), uint(len(so))))
		check("C_InitPIN", f.initPIN(s, unsafe.Pointer(&pin[0]), uint(len(pin))))
		check("C_Logout", f.logout(s))
		check("C_Login", f.login(s, 1, unsafe.Pointer(&pin[0]), uint(len(pin))))
		for _, o := range t.Objects {
			attrs := make([]attribute, len(o))
			for i, a := range o {
				attrs[i] = attribute{a.Type, unsafe.Pointer(unsafe.SliceData(a.Value)), uint(len(a.Value))}
			}
			var handle uint
			check("C_CreateObject", f.createObject(s, unsafe.Pointer(&attrs[0]), uint(len(attrs)), unsafe.Pointer(&handle)))
		}
		check("C_Logout", f.logout(s))
		check("C_CloseSession", f.closeSession(s))
		return
	}
	fail("no free slot")
}

func check(function string, code uint) {
	if code != 0 {
		fail(fmt.Sprintf("%s: %#x", function, code))
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "provision:", text)
	os.Exit(1)
}
