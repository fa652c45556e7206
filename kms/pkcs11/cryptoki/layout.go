package cryptoki

import "unsafe"

// The structures of PKCS #11 as a C compiler lays them out on 64-bit Unix, which is as Go does.

type initializeArgs struct {
	_        [4]uintptr // createMutex, destroyMutex, lockMutex, unlockMutex: the system's own
	flags    uint
	reserved unsafe.Pointer
}

type info struct {
	_            [2]byte
	manufacturer [32]byte
	_            uint
	description  [32]byte
	version      [2]byte
}

type slotInfo struct {
	description  [64]byte
	manufacturer [32]byte
	_            uint
	_            [4]byte
}

type tokenInfo struct {
	label        [32]byte
	manufacturer [32]byte
	model        [16]byte
	serial       [16]byte
	flags        uint
	_            [10]uint
	_            [20]byte
}

type attribute struct {
	typ    uint
	value  unsafe.Pointer
	length uint
}

type mechanism struct {
	mechanism uint
	parameter unsafe.Pointer
	length    uint
}

type mechanismInfo struct {
	_ [2]uint // smallest and largest key
	_ uint    // flags
}

// functionList is CK_FUNCTION_LIST: a version and 68 functions, whose order the standard fixes.
type functionList struct {
	version [2]byte
	fn      [68]uintptr
}

// The places in functionList.
const (
	fnInitialize        = 0
	fnFinalize          = 1
	fnGetInfo           = 2
	fnGetSlotList       = 4
	fnGetSlotInfo       = 5
	fnGetTokenInfo      = 6
	fnGetMechanismInfo  = 8
	fnOpenSession       = 12
	fnCloseSession      = 13
	fnLogin             = 18
	fnLogout            = 19
	fnGetAttributeValue = 24
	fnFindObjectsInit   = 26
	fnFindObjects       = 27
	fnFindObjectsFinal  = 28
	fnSignInit          = 42
	fnSign              = 43
)
