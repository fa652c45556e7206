package trust

import (
	"errors"
	"syscall"
)

// tryLock takes the lock of a file that is made if need be; both nil: somebody else has it. A process that dies gives it back.
func tryLock(file string) (unlock func(), err error) {
	name, err := syscall.UTF16PtrFromString(file)
	if err != nil {
		return nil, err
	}
	// Opened with nothing shared, nobody else opens it.
	const sharing = syscall.Errno(32)
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, sharing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = syscall.CloseHandle(h) }, nil
}

// syncFolder: folders need no syncing there.
func syncFolder(string) error { return nil }
