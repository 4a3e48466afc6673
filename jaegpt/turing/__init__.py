"""The blind test: which reply is real?"""
