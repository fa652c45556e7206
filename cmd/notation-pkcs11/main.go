// Command notation-pkcs11 is a Notary Project plugin that signs with keys in PKCS #11 tokens.
package main

func main() {}
