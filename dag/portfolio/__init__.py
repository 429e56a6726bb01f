"""The answer to a mapping problem: all placers asked, the best improved, with the reasons."""
