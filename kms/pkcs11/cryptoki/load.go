//go:build (linux || darwin) && (amd64 || arm64 || (linux && (loong64 || ppc64le || riscv64)))

package cryptoki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// load fills f with the functions of the library at path.
func load(path string, f *functions) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("loading the PKCS #11 module %s: the path is not absolute", path)
	}
	// The dynamic loader's own words for these are about file formats.
	if info, err := os.Stat(path); err != nil {
		return fmt.Errorf("loading the PKCS #11 module: %w", err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("loading the PKCS #11 module %s: it is no regular file", path)
	}
	// The loader keeps its error per thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	library, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("loading the PKCS #11 module %s: %w", path, err)
	}
	entry, err := purego.Dlsym(library, "C_GetFunctionList")
	if err != nil || entry == 0 {
		return errors.Join(fmt.Errorf("loading %s: it is no PKCS #11 module, for it has no C_GetFunctionList", path), err)
	}
	var getFunctionList func(list unsafe.Pointer) uint
	purego.RegisterFunc(&getFunctionList, entry)
	var list *functionList
	if err := check("C_GetFunctionList", getFunctionList(unsafe.Pointer(&list))); err != nil {
		return err
	}
	if list == nil || list.version[0] < 2 || list.version[0] > 3 {
		return fmt.Errorf("loading the PKCS #11 module %s: it is for another version of PKCS #11 than 2 and 3", path)
	}
	for _, b := range []struct {
		place    int
		function any
	}{
		{fnInitialize, &f.initialize}, {fnFinalize, &f.finalize}, {fnGetInfo, &f.getInfo}, {fnGetSlotList, &f.getSlotList},
		{fnGetSlotInfo, &f.getSlotInfo}, {fnGetTokenInfo, &f.getTokenInfo},
		{fnGetMechanismInfo, &f.getMechanismInfo}, {fnOpenSession, &f.openSession},
		{fnCloseSession, &f.closeSession}, {fnLogin, &f.login}, {fnLogout, &f.logout},
		{fnGetAttributeValue, &f.getAttributeValue}, {fnFindObjectsInit, &f.findObjectsInit}, {fnFindObjects, &f.findObjects},
		{fnFindObjectsFinal, &f.findObjectsFinal}, {fnSignInit, &f.signInit}, {fnSign, &f.sign},
	} {
		if list.fn[b.place] == 0 {
			return fmt.Errorf("loading the PKCS #11 module %s: it lacks function %d of PKCS #11", path, b.place)
		}
		purego.RegisterFunc(b.function, list.fn[b.place])
	}
	return nil
}
