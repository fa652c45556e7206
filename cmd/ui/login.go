package ui

import (
	"fmt"
	"io"
)

// Login says that a credential was good, and where it is kept.
func Login(w io.Writer, host, username, helper, file string) {
	const word = "logged in"
	headline(w, good, word, host+" as "+username, "")
	if helper != "" {
		under(w, word, "kept by "+helper+", as "+file+" says")
		return
	}
	under(w, word, "kept in "+file+", not encrypted")
}

// Logout says that nothing is kept any more.
func Logout(w io.Writer, host, helper, file string) {
	const word = "logged out"
	headline(w, plain, word, host, "")
	at := file
	if helper != "" {
		at = helper
	}
	under(w, word, fmt.Sprintf("nothing is kept for it in %s", at))
}
