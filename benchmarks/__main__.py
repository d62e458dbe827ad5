if __name__ == "__main__":  # contestants' processes import this module too, and must stay small
    from benchmarks.run import main

    main()
