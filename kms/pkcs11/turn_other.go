//go:build !unix || aix || solaris

package pkcs11

func (w turn) shared() bool    { return true }
func (w turn) exclusive() bool { return true }
func (w turn) done()           {}
